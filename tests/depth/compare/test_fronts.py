"""Areas, savings and correlations on fronts whose answers are known."""

import json

import numpy as np
import pytest

from pipeline.depth.compare.fronts import Floats, fronts, need, slider, unseen_budgets
from pipeline.depth.compare.need import Spent


def points(*rows: tuple[float, float], problems: int = 40) -> Floats:
    """[_P, _K, 3] of problems that all cost the same; accuracies are shares of right problems."""
    share = (np.arange(problems) + 0.5) / problems
    columns = [
        np.stack([np.full(problems, c), np.full(problems, 10 * c), share < a], axis=1)
        for c, a in rows
    ]
    return np.stack(columns, axis=1).astype(float)


FIXED = points((1, 0.2), (2, 0.4), (4, 0.8), (8, 0.8))


def test_a_method_on_the_hull_gains_nothing() -> None:
    found = fronts(FIXED, {"policy": points((1, 0.2), (4, 0.8))}, policy="policy", resamples=50)
    assert found["hull_area"] == pytest.approx(0, abs=1e-9)
    assert found["iterations_saved"] == pytest.approx(0)
    assert found["reference"] == {"iterations": 4, "flops": 40, "accuracy": 0.8}
    assert found["hypervolume"]["policy"] < found["hypervolume"]["fixed"] + 0.02


def test_a_method_above_the_hull_saves_and_gains() -> None:
    better = points((1, 0.5), (2, 0.8))
    found = fronts(FIXED, {"policy": better, "kl": FIXED}, policy="policy", resamples=50)
    assert found["iterations_saved"] == found["flops_saved"] == pytest.approx(0.5)
    low, high = found["hull_area_ci"]
    assert low <= found["hull_area"] <= high
    assert found["hull_area"] > 0.04
    assert found["hypervolume"]["policy"] > found["hypervolume"]["kl"]
    assert found["hull_area_by_method"]["kl"][0] == pytest.approx(0, abs=1e-9)
    json.dumps(found, allow_nan=False)


def test_a_method_that_never_gets_there_saves_nothing_that_can_be_told() -> None:
    found = fronts(FIXED, {"policy": points((1, 0.3))}, policy="policy", resamples=20)
    assert found["flops_saved"] is None


def test_differences_are_of_the_same_problems() -> None:
    good, worse = points((1, 0.5), (2, 0.8)), points((1, 0.4), (2, 0.7))
    found = fronts(FIXED, {"policy": good[None], "other": worse}, policy="policy", resamples=100)
    gap, low, high = found["hypervolume_ahead"]["other"]
    volumes = found["hypervolume"]
    assert gap == pytest.approx(volumes["policy"] - volumes["other"])
    assert 0 < low <= gap <= high
    assert high - low < np.ptp(found["hypervolume_ci"]["policy"])
    assert set(found["hypervolume_ahead"]) == {"fixed", "other"}


def test_seeds_widen_the_interval() -> None:
    good, bad = points((1, 0.5), (2, 0.8)), points((1, 0.2), (4, 0.8))
    one = fronts(FIXED, {"policy": good[None]}, policy="policy", resamples=200)
    two = fronts(FIXED, {"policy": np.stack([good, bad])}, policy="policy", resamples=200)
    assert np.ptp(two["hull_area_ci"]) > np.ptp(one["hull_area_ci"])
    assert two["hull_area"] < one["hull_area"]


EACH = {steps: steps for steps in (1, 2, 3, 4)}  # one iteration a step


def test_need_is_counted_in_the_models_iterations() -> None:
    asked = [Spent(depth=2, steps=s, asked=True) for s in (1, 2, 4)]
    found = need(asked, {2: 1, 4: 3})
    assert found["waste"] == pytest.approx(2 / 6)  # one step needs no more than two do
    assert found["shortfall"] == pytest.approx(1 / 5)
    assert found["iterations_by_steps"] == {"2": 1, "4": 3}


def test_depth_that_follows_need_correlates() -> None:
    asked = [Spent(depth=d, steps=d, asked=True) for d in (1, 2, 3, 4)]
    idle = [Spent(depth=1, steps=d, asked=False) for d in (3, 4)]
    found = need([*asked, *idle], EACH)
    assert found["spearman"] == pytest.approx(1)
    assert found["spearman_all"] == pytest.approx(1)
    assert found["waste"] == found["shortfall"] == 0
    assert (found["depth_asked"], found["depth_idle"]) == (2.5, 1)


def test_depth_spent_on_idle_results_is_waste() -> None:
    asked = [Spent(depth=3, steps=3, asked=True), Spent(depth=1, steps=3, asked=True)]
    found = need([*asked, Spent(depth=4, steps=4, asked=False)], EACH)
    assert found["waste"] == pytest.approx(3 / 8)
    assert found["shortfall"] == pytest.approx(2 / 7)
    assert found["spearman"] is None  # one need alone has no ranks


def test_without_queries_there_is_nothing_to_tell() -> None:
    assert set(need([], EACH).values()) == {None}


def test_unseen_budgets_are_the_middles_of_equal_parts() -> None:
    assert unseen_budgets([0.7, 0.2, 0.4], count=5) == pytest.approx([0.25, 0.35, 0.45, 0.55, 0.65])


def test_a_sliders_error_is_a_share_of_its_range() -> None:
    found = slider([0.3, 0.4], [0.32, 0.39], reach=0.5)
    assert found["budget_error"] == pytest.approx(0.04)
    assert found["monotone"]
    assert found["budgets"][0] == {"budget": 0.3, "spent": 0.32}
    assert not slider([0.3, 0.4], [0.4, 0.3], reach=0.5)["monotone"]
