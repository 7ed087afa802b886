"""Areas, hypervolumes and savings on fronts whose answers are known."""

import json
from collections.abc import Mapping
from dataclasses import asdict

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.depth.compare.depth_report import Fronts
from pipeline.depth.compare.fronts import BEYOND, yardstick
from pipeline.depth.compare.fronts import fronts as fronts_of
from pipeline.measure.pareto import Floats


def points(*rows: tuple[float, float], problems: int = 40) -> Floats:
    """[_P, _K, 3] of problems that all cost the same; accuracies are shares of right problems."""
    share = (np.arange(problems) // 2 + 0.5) / (problems // 2)  # alike in both halves
    columns = [
        np.stack([np.full(problems, c), np.full(problems, 10 * c), share < a], axis=1)
        for c, a in rows
    ]
    return np.stack(columns, axis=1).astype(float)


def fronts(fixed: Floats, methods: Mapping[str, Floats], *, resamples: int) -> Fronts:
    """Problems alike two by two, so the halves are by pairs."""
    half = [row % 2 for row in range(len(fixed))]
    return fronts_of(fixed, methods, policy="policy", half=half, resamples=resamples)


FIXED = points((1, 0.2), (2, 0.4), (4, 0.8), (8, 0.8))


def test_a_method_on_the_hull_gains_nothing() -> None:
    found = fronts(FIXED, {"policy": points((1, 0.2), (4, 0.8))}, resamples=50)
    assert found.hull_area == pytest.approx(0, abs=1e-9)
    assert found.iterations_saved == pytest.approx(0)
    assert found.reference == {"iterations": 4, "flops": 40, "accuracy": 0.8}
    assert found.best_fixed == found.reference
    assert found.hypervolume["policy"] < found.hypervolume["fixed"]


def test_a_method_above_the_hull_saves_and_gains() -> None:
    better = points((1, 0.5), (2, 0.8))
    found = fronts(FIXED, {"policy": better, "kl": FIXED}, resamples=50)
    assert found.iterations_saved == found.flops_saved == pytest.approx(0.5)
    assert found.flops_saved_ci == pytest.approx([0, 0.5], abs=0.5)
    assert found.flops_saved_accuracy is not None
    low, high = found.hull_area_ci
    assert low <= found.hull_area <= high
    assert found.hull_area > 0.04
    assert found.hypervolume["policy"] > found.hypervolume["kl"]
    assert found.hull_area_by_method["kl"][0] == pytest.approx(0, abs=1e-9)
    json.dumps(asdict(found), allow_nan=False)


def test_a_method_that_never_gets_there_saves_nothing_that_can_be_told() -> None:
    found = fronts(FIXED, {"policy": points((1, 0.3))}, resamples=20)
    assert found.flops_saved is found.flops_saved_ci is found.flops_saved_accuracy is None


def test_differences_are_of_the_same_problems() -> None:
    good, worse = points((1, 0.5), (2, 0.8)), points((1, 0.4), (2, 0.7))
    found = fronts(FIXED, {"policy": good[None], "other": worse}, resamples=100)
    gap, low, high = found.hypervolume_difference["other"]
    volumes = found.hypervolume
    assert gap == pytest.approx(volumes["policy"] - volumes["other"])
    assert 0 < low <= gap <= high
    assert high - low < np.ptp(found.hypervolume_ci["policy"])
    assert set(found.hypervolume_difference) == {"fixed", "other"}


def test_seeds_widen_the_interval() -> None:
    good, bad = points((1, 0.5), (2, 0.8)), points((1, 0.2), (4, 0.8))
    one = fronts(FIXED, {"policy": good[None]}, resamples=200)
    two = fronts(FIXED, {"policy": np.stack([good, bad])}, resamples=200)
    assert np.ptp(two.hull_area_ci) > np.ptp(one.hull_area_ci)
    assert two.hull_area < one.hull_area


def test_the_yardstick_is_of_the_undominated_depths() -> None:
    ruler = yardstick(FIXED.mean(axis=0)[:, 1:])
    assert (ruler.low, ruler.high, ruler.floor) == (10, 40, 0.2)
    assert ruler.worst == (40 * BEYOND, 0.2)


@settings(deadline=None, max_examples=25)
@given(
    extra=st.lists(
        st.tuples(st.floats(4.5, 400), st.integers(0, 16).map(lambda n: n / 20)),
        min_size=1,
        max_size=3,
    )
)
def test_a_dominated_dear_depth_changes_nothing(extra: list[tuple[float, float]]) -> None:
    """Accuracies of 0 to 80 % at more than the cost of depth 4, which has 80 %."""
    policy = points((1, 0.5), (2, 0.7), (3, 0.8))
    methods = {"policy": policy, "kl": points((1, 0.1), (3, 0.6))}
    found = fronts(FIXED, methods, resamples=5)
    more = np.concatenate([FIXED, points(*extra)], axis=1)
    assert fronts(more, methods, resamples=5).hull_area == found.hull_area
    assert fronts(more, methods, resamples=5).hypervolume == found.hypervolume
    assert found.hull_area > 0.1


def test_hypervolume_counts_from_the_cheapest_depths_accuracy() -> None:
    """The policy rises from 0.5 at 10 and 0.8 at 20, in a box of 42 by 0.8 over 0.2."""
    found = fronts(FIXED, {"policy": points((1, 0.5), (2, 0.8))}, resamples=5)
    assert found.hypervolume["policy"] == pytest.approx((10 * 0.3 + 22 * 0.6) / (42 * 0.8))
    # what a method does below that accuracy is not told from one that has not been run so far down
    low = fronts(FIXED, {"policy": points((0.5, 0.1), (1, 0.5), (2, 0.8))}, resamples=5)
    assert low.hypervolume["policy"] == found.hypervolume["policy"]


def test_where_one_depth_is_as_good_as_all_there_is_no_range() -> None:
    flat = points((1, 0.4), (2, 0.4))
    found = fronts(flat, {"policy": points((2, 0.6))}, resamples=5)
    assert (found.hull_area, found.hull_area_ci) == (0, [0, 0])
