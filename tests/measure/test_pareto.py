"""Fronts, hulls, areas and intervals against closed forms, brute force and properties."""

import itertools

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.measure.pareto import (
    accuracy_at,
    accuracy_on_line,
    area_above_hull,
    hypervolume,
    pareto_front,
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
    assert accuracy_at(upper_hull(points), budget) == pytest.approx(best, abs=1e-9, nan_ok=True)


@given(POINTS)
def test_a_hull_rises_ever_more_slowly(points: list[tuple[float, float]]) -> None:
    steps = np.diff(upper_hull(points), axis=0)
    slopes = steps[:, 1] / steps[:, 0]
    assert (slopes > 0).all()
    assert (np.diff(slopes) < 1e-12).all()


@given(POINTS)
def test_the_front_is_what_nothing_dominates(points: list[tuple[float, float]]) -> None:
    undominated = {
        (c, a)
        for c, a in points
        if not any(x <= c and y >= a and (x, y) != (c, a) for x, y in points)
    }
    assert set(map(tuple, pareto_front(points).tolist())) == undominated


def test_a_front_needs_finite_points() -> None:
    with pytest.raises(ValueError, match="at least one point"):
        pareto_front([])
    with pytest.raises(ValueError, match="finite"):
        upper_hull([(1, float("nan"))])


def test_a_front_between_its_points() -> None:
    front = pareto_front([(1, 0.2), (3, 0.6)])
    np.testing.assert_allclose(accuracy_at(front, [0.5, 1, 2, 3, 9]), [np.nan, 0.2, 0.4, 0.6, 0.6])


@pytest.mark.parametrize(
    ("points", "area"),
    [
        ([(1, 0.3), (3, 0.9)], 0.1),  # the hull and a tenth
        ([(2, 0.8)], 0.15 / 2),  # nothing under cost 2, then 0.3 falling to 0
        ([(1, 0.0), (2, 0.0), (3, 0.0)], -0.5),
    ],
)
def test_area_of_known_fronts(points: list[tuple[float, float]], area: float) -> None:
    hull = upper_hull([(1, 0.2), (3, 0.8)])
    assert area_above_hull(points, hull, 1, 3) == pytest.approx(area)


def test_area_needs_a_range() -> None:
    with pytest.raises(ValueError, match="empty"):
        area_above_hull([(1, 0.5)], upper_hull([(1, 0.2)]), 2, 2)


@given(POINTS, POINTS, st.floats(0.5, 10), st.floats(0.5, 10))
def test_area_is_the_mean_difference(
    points: list[tuple[float, float]],
    fixed: list[tuple[float, float]],
    low: float,
    width: float,
) -> None:
    hull, steps = upper_hull(fixed), 20_000
    at = low + width * (np.arange(steps) + 0.5) / steps
    gap = accuracy_at(pareto_front(points), at) - accuracy_at(hull, at)
    found = area_above_hull(points, hull, low, low + width)
    assert found == pytest.approx(np.nan_to_num(gap).mean(), abs=2e-3)


def test_the_fixed_depths_themselves_have_no_area() -> None:
    fixed = [(1, 0.2), (2, 0.5), (4, 0.7), (8, 0.75)]
    assert area_above_hull(fixed, upper_hull(fixed), 1, 8) == pytest.approx(0)


def test_the_line_keeps_points_that_a_front_would_drop() -> None:
    points = [(4, 0.3), (1, 0.2), (2, 0.6)]
    assert accuracy_on_line(points, 1.5) == pytest.approx(0.4)
    assert accuracy_on_line(points, 3) == pytest.approx(0.45)
    assert [accuracy_on_line(points, cost) for cost in (0.5, 9)] == [0.2, 0.3]


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
