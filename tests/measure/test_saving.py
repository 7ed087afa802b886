"""Savings on data whose answer is known, and what choosing on reported data would claim."""

import numpy as np
import pytest

from pipeline.measure.pareto import Floats
from pipeline.measure.saving import saving


def points(*rows: tuple[float, float], problems: int = 400) -> Floats:
    """[_P, _K, 2] of problems that all cost the same; both halves hold the same share right."""
    share = (np.arange(problems) // 2 + 0.5) / (problems // 2)
    columns = [np.stack([np.full(problems, c), share < a], axis=1) for c, a in rows]
    return np.stack(columns, axis=1).astype(float)


FIXED = points((10, 0.60), (40, 0.795), (80, 0.80))


def test_the_tolerance_is_applied_once() -> None:
    """The target is 79 %: within a point of the reference, 78.5 % at half of its cost is not
    within a point of the best."""
    found = saving(points((20, 0.785), (30, 0.80)), FIXED, tolerance=0.01, resamples=50)
    assert found is not None
    assert found.cost.estimate == pytest.approx(1 - 30 / 40)
    assert found.accuracy.estimate == pytest.approx(0.0)


def test_nothing_is_saved_at_a_target_that_is_never_reached() -> None:
    assert saving(points((20, 0.785)), FIXED, tolerance=0.01, resamples=50) is None


def test_the_reference_is_the_cheapest_depth_that_is_as_good() -> None:
    found = saving(FIXED, FIXED, tolerance=0.01, resamples=50)
    assert found is not None
    assert found.cost.estimate == 0
    assert found.accuracy.estimate == pytest.approx(-0.005)  # of depth 40 to depth 80


def test_luck_is_not_reported() -> None:
    """Twenty settings, all three points under the best: the luckiest looks good where it was
    chosen. Read off other problems, the mean is what it is."""
    rng = np.random.default_rng(0)
    lags = []
    for _ in range(60):
        fixed = np.stack([np.full((400, 1), 40.0), rng.random((400, 1)) < 0.8], axis=-1)
        cost = np.broadcast_to(np.linspace(20, 39, 20), (400, 20))
        method = np.stack([cost, rng.random((400, 20)) < 0.77], axis=-1)
        found = saving(method, fixed.astype(float), tolerance=0.01, resamples=2)
        if found is not None:
            lags.append(found.accuracy.estimate)
    assert len(lags) > 20  # where it was chosen, each of them is within the point
    assert np.mean(lags) == pytest.approx(-0.03, abs=0.01)


def test_the_interval_is_over_problems_and_seeds() -> None:
    rng = np.random.default_rng(1)
    cost = np.stack([rng.uniform(20, 40, 400), rng.uniform(30, 50, 400)], axis=1)
    method = np.stack([cost, points((1, 0.80), (1, 0.80))[..., 1]], axis=-1)
    one = saving(method, FIXED, tolerance=0.01, resamples=300)
    assert one is not None
    assert one.cost.low < one.cost.estimate < one.cost.high
    assert one == saving(method[None], FIXED, tolerance=0.01, resamples=300)
    dearer = method.copy()
    dearer[..., 0] += 8
    two = saving(np.stack([method, dearer]), FIXED, tolerance=0.01, resamples=300)
    assert two is not None
    assert two.cost.high - two.cost.low > 1.5 * (one.cost.high - one.cost.low)


def test_a_draw_that_reaches_no_target_saves_nothing() -> None:
    """A policy at the very edge of the tolerance: some draws fall below, and the bound says so."""
    rng = np.random.default_rng(2)
    fixed = np.stack([np.full((200, 1), 40.0), rng.random((200, 1)) < 0.8], axis=-1).astype(float)
    method = fixed.copy()
    method[..., 0] = 20.0
    wrong = rng.choice(200, 3, replace=False)
    method[wrong, :, 1] = 0.0
    found = saving(method, fixed, tolerance=0.02, resamples=300)
    assert found is not None
    assert found.cost.estimate == pytest.approx(0.5)
    assert found.cost.low < 0.5


def test_one_problem_has_no_halves() -> None:
    with pytest.raises(ValueError, match="1 problem has no half"):
        saving(FIXED[:1], FIXED[:1], tolerance=0.01)
