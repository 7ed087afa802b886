"""Fronts, hulls, areas and intervals against closed forms, brute force and properties."""

import itertools

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.measure.pareto import (
    Between,
    area_above_hull,
    area_interval,
    bootstrap,
    cheapest_within,
    front_at,
    hull_at,
    hypervolume,
    paired_difference,
    pareto_front,
    savings,
    spearman,
    upper_hull,
    waste_and_shortfall,
)

POINT = st.tuples(st.integers(1, 20).map(float), st.integers(0, 20).map(lambda n: n / 20))
POINTS = st.lists(POINT, min_size=1, max_size=8)


@given(POINTS, st.floats(1, 25))
def test_the_hull_is_the_best_mixture_of_two_depths(
    points: list[tuple[float, float]], budget: float
) -> None:
    """A mixture that spends at most the budget needs no more than two points."""
    best = float("nan")
    for (c1, a1), (c2, a2) in itertools.product(points, repeat=2):
        if c1 <= budget:
            share = 1.0 if c2 <= budget else (budget - c1) / (c2 - c1)
            best = np.nanmax([best, a1, a1 + share * (a2 - a1)])
    assert hull_at(upper_hull(points), budget) == pytest.approx(best, abs=1e-9, nan_ok=True)


@given(POINTS)
def test_a_hull_rises_ever_more_slowly(points: list[tuple[float, float]]) -> None:
    steps = np.diff(upper_hull(points), axis=0)
    slopes = steps[:, 1] / steps[:, 0]
    assert (slopes > 0).all()
    assert (np.diff(slopes) < 1e-12).all()


@given(POINTS)
def test_the_front_is_what_nothing_dominates(points: list[tuple[float, float]]) -> None:
    kept = {
        (c, a)
        for c, a in points
        if not any(x <= c and y >= a and (x, y) != (c, a) for x, y in points)
    }
    assert set(map(tuple, pareto_front(points).tolist())) == kept


def test_a_front_needs_finite_points() -> None:
    with pytest.raises(ValueError, match="at least one point"):
        pareto_front([])
    with pytest.raises(ValueError, match="finite"):
        upper_hull([(1, float("nan"))])


def test_a_front_between_its_points() -> None:
    front = pareto_front([(1, 0.2), (3, 0.6)])
    for between, middle in (("linear", 0.4), ("step", 0.2)):
        found = front_at(front, [0.5, 1, 2, 3, 9], between=between)
        np.testing.assert_allclose(found, [np.nan, 0.2, middle, 0.6, 0.6])


@pytest.mark.parametrize(
    ("points", "between", "area"),
    [
        ([(1, 0.3), (3, 0.9)], "linear", 0.1),  # the hull and a tenth
        ([(1, 0.2), (3, 0.8)], "step", -0.3),  # under the line by 0 to 0.6 while it waits
        ([(2, 0.8)], "linear", 0.15 / 2),  # nothing under cost 2, then 0.3 falling to 0
        ([(1, 0.0), (2, 0.0), (3, 0.0)], "linear", -0.5),
    ],
)
def test_area_of_known_fronts(
    points: list[tuple[float, float]], between: Between, area: float
) -> None:
    hull = upper_hull([(1, 0.2), (3, 0.8)])
    assert area_above_hull(points, hull, 1, 3, between=between) == pytest.approx(area)


def test_area_needs_a_range() -> None:
    with pytest.raises(ValueError, match="empty"):
        area_above_hull([(1, 0.5)], upper_hull([(1, 0.2)]), 2, 2)


@given(POINTS, POINTS, st.floats(0.5, 10), st.floats(0.5, 10), st.sampled_from(["linear", "step"]))
def test_area_is_the_mean_difference(
    points: list[tuple[float, float]],
    fixed: list[tuple[float, float]],
    low: float,
    width: float,
    between: Between,
) -> None:
    hull, steps = upper_hull(fixed), 20_000
    at = low + width * (np.arange(steps) + 0.5) / steps
    gap = front_at(pareto_front(points), at, between=between) - hull_at(hull, at)
    found = area_above_hull(points, hull, low, low + width, between=between)
    assert found == pytest.approx(np.nan_to_num(gap).mean(), abs=2e-3)


def test_the_fixed_depths_themselves_have_no_area() -> None:
    fixed = [(1, 0.2), (2, 0.5), (4, 0.7), (8, 0.75)]
    assert area_above_hull(fixed, upper_hull(fixed), 1, 8) == pytest.approx(0)


def test_an_area_with_its_interval_over_problems_and_seeds() -> None:
    rng = np.random.default_rng(3)
    cost = np.broadcast_to([1.0, 2.0, 4.0], (200, 3))
    fixed = np.stack((cost, rng.random((200, 3)) < [0.2, 0.5, 0.8]), axis=-1)
    above = np.stack((cost, np.minimum(fixed[..., 1] + (rng.random((200, 3)) < 0.3), 1)), axis=-1)
    found = area_interval(above, fixed, 1, 4, resamples=200)
    assert 0 < found.low < found.estimate < found.high
    noise = np.array([-0.2, 0.0, 0.2])[:, None, None] * np.array([0, 1])  # seeds that disagree
    seeds = above[None] + noise[:, None]
    wider = area_interval(seeds, fixed, 1, 4, resamples=200)
    assert wider.estimate == pytest.approx(found.estimate)
    assert wider.high - wider.low > 1.5 * (found.high - found.low)
    assert found == area_interval(above, fixed, 1, 4, resamples=200)


@given(POINT)
def test_hypervolume_of_one_point(point: tuple[float, float]) -> None:
    cost, accuracy = point
    closed = max(0, 1 - cost / 16) * max(0, (accuracy - 0.1) / 0.9)
    assert hypervolume([point], (16, 0.1)) == pytest.approx(closed)


@given(POINTS, POINT)
def test_hypervolume_grows_with_points_and_ignores_the_dominated(
    points: list[tuple[float, float]], more: tuple[float, float]
) -> None:
    before = hypervolume(points, (15, 0.1))
    assert hypervolume([*points, more], (15, 0.1)) >= before - 1e-12
    cost, accuracy = points[0]
    worse = (cost + 1, max(accuracy - 0.05, 0.0))
    assert hypervolume([*points, worse], (15, 0.1)) == pytest.approx(before)
    assert 0 <= before <= 1


def test_hypervolume_of_two_points() -> None:
    """0.2 from cost 2 to 4 and 0.6 from there to 10, in a box of 10."""
    assert hypervolume([(2, 0.2), (4, 0.6)], (10, 0.0)) == pytest.approx((0.4 + 3.6) / 10)
    with pytest.raises(ValueError, match="no box"):
        hypervolume([(1, 0.5)], (10, 1.0))


def test_savings_are_counted_from_the_cheapest_depth_that_is_as_good() -> None:
    fixed = [(1, 0.3), (4, 0.795), (8, 0.8)]
    reference = cheapest_within(fixed, 0.8, tolerance=0.01)
    assert reference is not None
    assert reference.tolist() == [4, 0.795]
    found = savings([(1, 0.4), (3, 0.785), (5, 0.9)], reference)
    assert found is not None
    assert (found.cost, found.saved) == (3, 0.25)
    assert savings([(1, 0.4)], reference) is None


def test_bootstrap_of_a_mean_has_the_width_that_theory_gives() -> None:
    values = np.random.default_rng(1).normal(size=400)
    found = bootstrap(lambda a: float(a.mean()), [values], resamples=2000, seed=5)
    half = 1.96 * values.std() / 20
    assert found.estimate == values.mean()
    assert found.high - found.estimate == pytest.approx(half, rel=0.1)
    assert found.estimate - found.low == pytest.approx(half, rel=0.1)


def test_bootstrap_draws_alike_from_all_arrays() -> None:
    values = np.arange(50.0)
    found = bootstrap(lambda a, b: float(np.abs(a - b).max()), [values, values], resamples=50)
    assert (found.low, found.high) == (0, 0)
    with pytest.raises(ValueError, match="axis 0 has 49"):
        bootstrap(lambda a, b: 0.0, [values, values[1:]])


def test_pairing_removes_what_two_methods_share() -> None:
    rng = np.random.default_rng(2)
    problem = rng.normal(size=300)
    found = paired_difference(problem + 0.1, problem, resamples=200)
    assert found.low == pytest.approx(0.1)
    assert found.high == pytest.approx(0.1)
    seeds = np.stack((problem + 0.3, problem - 0.3))
    assert paired_difference(seeds, np.stack((problem, problem)), resamples=200).low < -0.2
    with pytest.raises(ValueError, match="pair up"):
        paired_difference(problem, problem[1:])


def test_rank_correlation() -> None:
    assert spearman([1, 2, 3, 4], [10, 100, 1000, 10000]) == pytest.approx(1)
    assert spearman([1, 2, 3, 4], [4, 3, 2, 1]) == pytest.approx(-1)
    assert spearman([1, 2, 2, 3], [1, 3, 2, 4]) == pytest.approx(4.5 / np.sqrt(4.5 * 5))
    assert np.isnan(spearman([1, 1, 1], [1, 2, 3]))


@given(st.lists(st.integers(-5, 5), min_size=3, max_size=12), st.data())
def test_rank_correlation_ignores_monotone_maps(a: list[int], data: st.DataObject) -> None:
    b = data.draw(st.lists(st.integers(-5, 5), min_size=len(a), max_size=len(a)))
    plain = spearman(a, b)
    assert spearman([x**3 for x in a], b) == pytest.approx(plain, nan_ok=True)
    assert spearman(b, a) == pytest.approx(plain, nan_ok=True)


def test_waste_and_shortfall() -> None:
    assert waste_and_shortfall([4, 2, 2], [2, 2, 4]) == (0.25, 0.25)
    assert waste_and_shortfall([8, 8], [2, 2]) == (0.75, 0.0)
