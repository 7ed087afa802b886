"""The bisection hits costs on curves whose inverse is known, and survives noise and jumps."""

import itertools
import math
import random
from collections.abc import Callable, Sequence

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.measure.placement import Search, falling, placed, search, searched, together

Ends = tuple[float, float]


def places_of(
    targets: list[float], cost: Callable[[float], float], *, ends: Ends, measurements: int
) -> list[float]:
    dear, cheap = ends
    costs = searched(search(targets, {}, dear=dear, cheap=cheap, measurements=measurements), cost)
    return placed(targets, costs, dear=dear, cheap=cheap)


ENDS = st.tuples(st.floats(-5, 5), st.floats(0.5, 5), st.booleans()).map(
    lambda e: (e[0], e[0] + (e[1] if e[2] else -e[1]))
)
DROPS = st.lists(st.floats(0.0, 1.0), min_size=2, max_size=6).filter(lambda d: sum(d) > 0.5)


def curve(ends: Ends, drops: list[float], place: float) -> float:
    """Straight pieces of equal width, each falling by its drop, from the first end to the other."""
    way = (place - ends[0]) / (ends[1] - ends[0]) * len(drops)
    whole = min(int(way), len(drops) - 1)
    return 10.0 - sum(drops[:whole]) - drops[whole] * (way - whole)


@settings(deadline=None, max_examples=150)
@given(ends=ENDS, drops=DROPS, shares=st.lists(st.floats(0, 1), min_size=1, max_size=5))
def test_costs_of_a_monotone_knob_are_hit(
    ends: Ends, drops: list[float], shares: list[float]
) -> None:
    targets = [10.0 - share * sum(drops) for share in shares]
    places = places_of(
        targets,
        lambda place: curve(ends, drops, place),
        ends=ends,
        measurements=2 + 12 * len(targets),
    )
    for target, place in zip(targets, places, strict=True):
        assert min(ends) <= place <= max(ends)
        assert curve(ends, drops, place) == pytest.approx(target, abs=0.02)


@settings(deadline=None, max_examples=100)
@given(
    ends=ENDS,
    drops=DROPS,
    seed=st.integers(0, 99),
    noise=st.floats(0, 2),
    targets=st.lists(st.floats(0, 12), min_size=2, max_size=6),
    measurements=st.integers(2, 14),
)
def test_noise_of_any_size_ends_within_the_knob_and_in_order(
    ends: Ends,
    drops: list[float],
    seed: int,
    noise: float,
    targets: list[float],
    measurements: int,
) -> None:
    calls: list[float] = []

    def noisy(place: float) -> float:
        calls.append(place)
        return curve(ends, drops, place) + random.Random(seed + hash(place)).gauss(0, noise)

    places = places_of(targets, noisy, ends=ends, measurements=measurements)
    assert len(set(calls)) == len(calls) <= measurements
    assert all(min(ends) <= place <= max(ends) for place in places)
    by_target = [place for _, place in sorted(zip(targets, places, strict=True))]
    towards_dear = 1 if ends[0] > ends[1] else -1
    assert all(towards_dear * (b - a) >= -1e-9 for a, b in itertools.pairwise(by_target))


@pytest.mark.parametrize("seed", range(20))
def test_a_little_noise_moves_costs_a_little(seed: int) -> None:
    def cost(place: float) -> float:
        return 1 + 7 / (1 + math.exp(2 * place))

    draw = random.Random(seed)
    targets = [1.25, 1.5, 2.0, 2.6, 3.5, 4.6, 6.0]
    places = places_of(
        targets, lambda p: cost(p) + draw.gauss(0, 0.05), ends=(-4, 4), measurements=12
    )
    for target, place in zip(targets, places, strict=True):
        assert cost(place) == pytest.approx(target, abs=0.5)


def test_a_target_beyond_the_ends_gets_the_nearer_end() -> None:
    calls: list[float] = []

    def cost(place: float) -> float:
        calls.append(place)
        return 5 - place

    assert places_of([9.0, 0.0], cost, ends=(0.0, 2.0), measurements=9) == [0.0, 2.0]
    assert calls == [0.0, 2.0]  # and nothing is measured for it


def test_a_jump_is_closed_in_on() -> None:
    one = search([3.0], {}, dear=-2, cheap=2, measurements=12)
    costs = searched(one, lambda p: 5.0 if p < 0.3 else 1.0)
    assert min(abs(place - 0.3) for place in costs) < 0.01


def test_what_is_known_is_not_measured_again() -> None:
    known = {0.0: 4.0, 1.0: 0.0}
    one = search([1.0, 3.0], known, dear=0.0, cheap=1.0, measurements=9, tolerance=0.1)
    assert sorted(searched(one, lambda p: 4 - 4 * p)) == [0.0, 0.25, 0.5, 0.75, 1.0]
    with pytest.raises(ValueError, match="1 measurements do not hold both ends"):
        next(search([1.0], {}, dear=0.0, cheap=1.0, measurements=1))


def test_searches_side_by_side_return_what_each_would_alone() -> None:
    def cost(number: int, place: float) -> float:
        return (4 + number) * (1 - place) ** 2

    def one(number: int) -> Search:
        targets = [0.5, 2.0][number:]
        return search(targets, {}, dear=0.0, cheap=1.0, measurements=6 + number, tolerance=0.02)

    rounds = 0

    def measure(places: Sequence[float | None]) -> list[float]:
        nonlocal rounds
        rounds += 1
        return [0.0 if p is None else cost(n, p) for n, p in enumerate(places)]

    both = together([one(0), one(1)], measure)
    assert both == [searched(one(n), lambda p, n=n: cost(n, p)) for n in (0, 1)]
    assert rounds == max(map(len, both))


@given(st.lists(st.floats(0, 1), min_size=1, max_size=12))
def test_smoothed_costs_never_rise_and_keep_their_mean(costs: list[float]) -> None:
    places, smooth = falling({float(i): cost for i, cost in enumerate(costs)})
    assert all(a >= b - 1e-12 for a, b in itertools.pairwise(smooth))
    assert smooth.mean() == pytest.approx(sum(costs) / len(costs))
    assert places.tolist() == [float(i) for i in range(len(costs))]
