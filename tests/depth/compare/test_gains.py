"""Gains at equal FLOPs: closed form on curves that are known, and nothing where methods are one."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.depth.compare.depth_report import Fronts
from pipeline.depth.compare.fronts import fronts
from pipeline.measure.pareto import Floats
from pipeline.recipe.depth_parts import compared_depths

DEPTHS = np.arange(1.0, 9.0)
INNER = np.array(compared_depths(8))


def problems(depths: Floats, accuracy: Floats, *, number: int = 60) -> Floats:
    """[_P, _K, 3] at 100 + 10 FLOPs a depth; every problem has the mean accuracy."""
    rows = np.stack([depths, 100 + 10 * depths, accuracy], axis=1)
    return np.broadcast_to(rows, (number, *rows.shape)).copy()


def drawn(depths: Floats, accuracy: Floats, *, seed: int, number: int = 200) -> Floats:
    points = problems(depths, accuracy, number=number)
    rng = np.random.default_rng(seed)
    points[..., 2] = rng.random(points.shape[:2]) < accuracy
    return points


def compared(fixed: Floats, methods: dict[str, Floats], *, resamples: int = 20) -> Fronts:
    half = [row % 2 for row in range(len(fixed))]
    return fronts(fixed, methods, policy="policy", half=half, resamples=resamples)


@settings(deadline=None, max_examples=30)
@given(
    slope=st.floats(0.01, 0.08),
    lead=st.floats(0, 0.3),
    behind=st.floats(0, 0.2),
)
def test_closed_form_on_straight_lines(slope: float, lead: float, behind: float) -> None:
    """Fixed depths rise straight; the policy is ahead by as much everywhere between the ends, the
    rival behind. At a stated depth a setting stands, so the gain is the lead."""
    fixed = problems(DEPTHS, 0.1 + slope * DEPTHS)
    methods = {
        "policy": problems(INNER, 0.1 + slope * INNER + lead)[None],
        "rival": problems(INNER, 0.1 + slope * INNER - behind),
    }
    report = compared(fixed, methods, resamples=3)
    assert list(report.gain_at) == ["1.25", "1.5", "2"]
    for depth, gains in report.gain_at.items():
        assert report.flops_at[depth] == pytest.approx(100 + 10 * float(depth))
        assert gains["fixed"]["gain"] == pytest.approx(lead, abs=1e-9)
        assert gains["rival"]["gain"] == pytest.approx(lead + behind, abs=1e-9)
        assert gains["rival"]["by_seed"] == [pytest.approx(lead + behind, abs=1e-9)]
        assert report.accuracy_at[depth]["policy"][0] == pytest.approx(
            0.1 + slope * float(depth) + lead
        )


def test_between_settings_accuracy_is_mixed() -> None:
    """The policy stands at depths 1.4 and 2.4 alone, and at both ends, as every method."""
    fixed = problems(DEPTHS, np.full(8, 0.2))
    fixed[:, -1, 2] = 0.8
    policy = problems(np.array([1.4, 2.4]), np.array([0.4, 0.6]))
    gains = compared(fixed, {"policy": policy}).gain_at
    line = {"1.25": 0.2 + 0.2 * 0.25 / 0.4, "1.5": 0.4 + 0.02, "2": 0.4 + 0.12}
    for depth, accuracy in line.items():
        mixed = 0.2 + 0.6 * (float(depth) - 1) / 7  # of depths 1 and 8, the others are under it
        assert gains[depth]["fixed"]["gain"] == pytest.approx(accuracy - mixed)


def test_a_method_without_settings_of_its_own_still_has_both_ends() -> None:
    fixed = problems(DEPTHS, np.linspace(0.2, 0.8, 8))
    beyond = problems(np.array([9.0]), np.array([0.1]))  # dearer than anything, and dominated
    report = compared(fixed, {"policy": beyond})
    assert all(g["fixed"]["gain"] == pytest.approx(0, abs=1e-9) for g in report.gain_at.values())
    assert report.hull_area == pytest.approx(0, abs=1e-9)


def test_an_end_that_a_setting_beats_is_no_part_of_the_line() -> None:
    """All settings cost less than depth 1 (answers are shorter), and are better: more money buys
    the dearest of them, not the way down to depth 1 and up again."""
    fixed = problems(DEPTHS, np.linspace(0.1, 0.8, 8))
    policy = problems(np.array([0.8, 0.9]), np.array([0.5, 0.6]))
    report = compared(fixed, {"policy": policy[None], "rival": policy})
    for depth in ("1.25", "1.5", "2"):
        on_line = 0.6 + 0.2 * (float(depth) - 0.9) / 7.1  # to the full depth, which nothing beats
        assert report.accuracy_at[depth]["policy"][0] == pytest.approx(on_line)
        gain = report.gain_at[depth]["fixed"]
        assert gain["gain"] == pytest.approx(on_line - 0.1 * float(depth))
        assert gain["by_seed"] == [pytest.approx(gain["gain"])]


def test_every_draw_has_the_ends_that_hold_in_it() -> None:
    """Answers cost a little more than at depth 1, but for noise, so that in half of the draws a
    setting is cheaper: no draw's line goes from it down to depth 1 and up again."""
    fixed = problems(DEPTHS, np.linspace(0.1, 0.8, 8))
    policy = problems(np.array([1.0, 1.01]), np.array([0.6, 0.6]))
    noise = np.random.default_rng(0).normal(0, 2, policy.shape[:2])
    policy[..., 1] += noise - noise.mean(axis=0) + 0.01
    gains = compared(fixed, {"policy": policy}, resamples=50).gain_at
    assert all(gains[key]["fixed"]["ci_low"] > 0.3 for key in ("1.25", "1.5"))


def test_settings_behind_an_end_keep_it() -> None:
    """Of the settings themselves none is left out, though the end of depth 1 beats one."""
    fixed = problems(DEPTHS, np.full(8, 0.5))
    policy = problems(np.array([1.5, 2.0]), np.array([0.3, 0.4]))
    at = compared(fixed, {"policy": policy}).accuracy_at
    assert [at[key]["policy"][0] for key in ("1.25", "1.5", "2")] == pytest.approx([0.4, 0.3, 0.4])


@pytest.mark.parametrize("seed", range(6))
def test_a_method_gains_nothing_over_itself(seed: int) -> None:
    fixed = drawn(DEPTHS, 0.2 + 0.07 * DEPTHS, seed=100 + seed)
    policy = drawn(INNER, 0.3 + 0.07 * INNER, seed=seed)
    report = compared(fixed, {"policy": policy[None], "twin": policy}, resamples=50)
    for gains in report.gain_at.values():
        assert (gains["twin"]["ci_low"], gains["twin"]["ci_high"]) == (0, 0)
    assert report.hypervolume_difference["twin"] == pytest.approx([0, 0, 0])


def test_intervals_of_equal_methods_cover_zero_as_often_as_they_say() -> None:
    covered = []
    for seed in range(40):
        accuracy = 0.3 + 0.07 * INNER
        fixed = drawn(DEPTHS, 0.2 + 0.07 * DEPTHS, seed=1000 + seed)
        methods = {
            "policy": np.stack([drawn(INNER, accuracy, seed=7 * seed + n) for n in range(5)]),
            "equal": drawn(INNER, accuracy, seed=5000 + seed),
        }
        gain = compared(fixed, methods, resamples=100).gain_at["1.5"]["equal"]
        assert gain["p_seeds"] is not None
        covered.append(gain["ci_low"] <= 0 <= gain["ci_high"])
    assert np.mean(covered) > 0.85


@settings(deadline=None, max_examples=20)
@given(dear=st.floats(81, 500), accuracy=st.floats(0, 0.75))
def test_a_dominated_dear_setting_changes_nothing(dear: float, accuracy: float) -> None:
    """Neither of the policy nor of a rival, beyond the full depth's cost."""
    fixed = problems(DEPTHS, np.linspace(0.2, 0.8, 8))
    policy = problems(INNER, np.linspace(0.5, 0.78, 7))
    more = np.concatenate([policy, problems(np.array([dear]), np.array([accuracy]))], axis=1)
    plain = compared(fixed, {"policy": policy, "rival": policy}, resamples=3)
    with_more = compared(fixed, {"policy": more, "rival": more}, resamples=3)
    assert with_more.gain_at == plain.gain_at
    assert with_more.hypervolume == plain.hypervolume
    assert with_more.flops_saved == plain.flops_saved
    assert with_more.hull_area == plain.hull_area
