"""The oracle's headroom where the truth is known."""

import numpy as np
import pytest

from pipeline.measure.headroom import headroom

DEPTHS = np.array([1.0, 2.0, 4.0, 8.0])


def graded(problems: int, samples: int, *, lucky: float = 0.0, seed: int = 0) -> np.ndarray:
    """Problems that need exactly one of four depths, a quarter each: [_P, _R, _N]."""
    needed = DEPTHS[np.arange(problems) % 4]
    chance = np.where(DEPTHS[None] >= needed[:, None], 1 - lucky, lucky)
    draws = np.random.default_rng(seed).random((problems, 4, samples))
    return (draws < chance[..., None]).astype(float)


def test_headroom_of_exactly_graded_problems() -> None:
    """The oracle is always right at the mean needed depth, 3.75; the hull there is on the line
    from (1, 0.25) over (2, 0.5) and (4, 0.75)."""
    found = headroom(graded(400, 2), DEPTHS)
    assert found.accuracy == (0.25, 0.5, 0.75, 1.0)
    assert found.oracle.cost == 3.75
    assert found.oracle.accuracy == 1.0
    assert found.oracle.hull_accuracy == pytest.approx(0.5 + 0.25 * 1.75 / 2)
    assert found.oracle.points.estimate == pytest.approx(100 * (0.5 - 0.25 * 1.75 / 2))
    assert found.oracle.points.low < found.oracle.points.estimate < found.oracle.points.high
    assert found.verdict == "go"
    assert found.cross_fitted
    assert "scored on the other" in found.reason


def test_the_sweep_finds_a_gain_that_the_plain_oracle_misses() -> None:
    """Half the problems are right from depth 1 on, half at the last depth or nearly: the plain
    oracle ends where the hull is saturated."""
    correct = np.zeros((400, 3))
    correct[:200] = 1
    correct[200:320, 1:] = 1
    correct[320:, 2] = 1
    found = headroom(np.stack((correct, correct), axis=2), [1.0, 2.0, 100.0])
    assert found.best_at_equal_cost.points.estimate > found.oracle.points.estimate + 1
    assert found.best_at_equal_cost.cost == pytest.approx(1.3)
    gain = 100 * (0.8 - (0.5 + 0.3 * 0.3))
    assert found.best_at_equal_cost.points.estimate == pytest.approx(gain)


def test_luck_is_no_headroom() -> None:
    """Every cell is a fair coin: choosing and scoring on the same flips looks like a gain."""
    coins = (np.random.default_rng(4).random((500, 4, 8)) < 0.5).astype(float)
    honest = headroom(coins, DEPTHS)
    assert honest.verdict == "no go" or honest.best_at_equal_cost.points.low < 0
    assert abs(honest.oracle.points.estimate) < 2
    naive = headroom(coins[:, :, 0], DEPTHS)
    assert naive.oracle.points.estimate > 10
    assert not naive.cross_fitted
    assert naive.verdict == "undecided"
    assert "upper bound" in naive.reason


def test_noise_shrinks_headroom_but_does_not_hide_it() -> None:
    clean = headroom(graded(800, 4), DEPTHS)
    noisy = headroom(graded(800, 4, lucky=0.15), DEPTHS)
    assert noisy.verdict == "go"
    assert 0 < noisy.oracle.points.estimate < clean.oracle.points.estimate


def test_problems_that_all_need_one_depth_are_no_go() -> None:
    correct = np.zeros((200, 4, 2))
    correct[:, 1:] = 1
    found = headroom(correct, DEPTHS)
    assert found.verdict == "no go"
    assert found.best_at_equal_cost.points.estimate == pytest.approx(0)


def test_few_problems_leave_it_undecided() -> None:
    found = headroom(graded(8, 2, lucky=0.3, seed=1), DEPTHS)
    assert found.verdict == "undecided"


def test_the_order_of_depths_does_not_matter() -> None:
    cells = graded(40, 2)
    assert headroom(cells[:, ::-1], DEPTHS[::-1]) == headroom(cells, DEPTHS)


@pytest.mark.parametrize(
    ("correct", "cost", "said"),
    [
        (np.zeros((3, 2)), [1, 2, 3], "shape"),
        (np.zeros((0, 2)), [1, 2], "shape"),
        (np.full((3, 2), 1.5), [1, 2], "outside"),
    ],
)
def test_wrong_input_is_refused(correct: np.ndarray, cost: list[int], said: str) -> None:
    with pytest.raises(ValueError, match=said):
        headroom(correct, cost)


def test_unscored_samples_count_as_nothing() -> None:
    """A sample less is as if fewer had been drawn; a cell without a half to choose on or to score
    on takes its problem along."""
    cells = graded(40, 4)
    fewer = cells.copy()
    fewer[7, 1, 3] = np.nan
    assert headroom(fewer, DEPTHS).problems == 40
    assert headroom(fewer, DEPTHS).oracle == headroom(cells, DEPTHS).oracle
    fewer[7, 2, ::2] = np.nan
    without = np.delete(cells, 7, axis=0)
    assert headroom(fewer, DEPTHS) == headroom(without, DEPTHS)
    with pytest.raises(ValueError, match="no problem was scored at every depth"):
        headroom(np.full((3, 4, 2), np.nan), DEPTHS)
