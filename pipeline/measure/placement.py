"""Where a knob stands so that what it turns costs what is asked for: bisection. Pure.

The cost falls from the knob's dear end to its cheap end, but for noise: a price, a threshold. Every
measurement serves all targets, so that several cost little more than one.
"""

from collections.abc import Callable, Generator, Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

_NARROW = 1e-6  # share of the knob's way; a bracket that is narrower holds a jump


Search = Generator[float, float, dict[float, float]]
"""Asks for the cost of a place, until it returns all that it was told."""


def search(
    targets: Sequence[float],
    known: Mapping[float, float],
    *,
    dear: float,
    cheap: float,
    measurements: int,
    tolerance: float = 0.0,
) -> Search:
    """Costs by place: `known` ones, both ends, and more where targets are far from any of them.

    Both ends are asked for, then the middle of the bracket whose target is missed by most. Nothing
    more is asked for a target that some cost meets within `tolerance`, that lies beyond the ends,
    or whose bracket holds a jump.

    Args:
        targets: costs, any order.
        known: costs by place, from an earlier search.
        dear: the place that costs most.
        cheap: the place that costs least, over or under `dear`.
        measurements: to ask for at most.
        tolerance: of a cost.

    Raises ValueError for fewer measurements than there are ends to ask for.
    """
    costs = dict(known)
    new = [end for end in (dear, cheap) if end not in costs]
    if measurements < len(new):
        raise ValueError(f"{measurements} measurements do not hold both ends of a knob: give 2")
    for end in new:
        costs[end] = yield end
    for _ in range(measurements - len(new)):
        place = _next_place(targets, costs, dear=dear, cheap=cheap, tolerance=tolerance)
        if place is None:
            break
        costs[place] = yield place
    return costs


def together(
    searches: Sequence[Search], measure: Callable[[Sequence[float | None]], Sequence[float]]
) -> list[dict[float, float]]:
    """What searches return that go on side by side, each asking for one place at a time.

    `measure`: a place of each search, None of one that is done, to their costs (of those that are
    done, anything).
    """
    returned: list[dict[float, float]] = [{} for _ in searches]

    def next_place(number: int, cost: float | None) -> float | None:
        """The next place that a search asks for; None once it has returned."""
        one = searches[number]
        try:
            return next(one) if cost is None else one.send(cost)
        except StopIteration as end:
            returned[number] = end.value
            return None

    places = [next_place(number, None) for number in range(len(searches))]
    while any(place is not None for place in places):
        costs = measure(places)
        places = [
            None if place is None else next_place(number, costs[number])
            for number, place in enumerate(places)
        ]
    return returned


def searched(search_of_one: Search, cost: Callable[[float], float]) -> dict[float, float]:
    """What one search returns where `cost` tells what it asks for."""

    def measure(places: Sequence[float | None]) -> list[float]:
        return [cost(place) for place in places if place is not None]

    return together([search_of_one], measure)[0]


def placed(
    targets: Sequence[float], costs: Mapping[float, float], *, dear: float, cheap: float
) -> list[float]:
    """The place of the knob for every target, by costs that a search returned.

    Read off the straight line through the target's bracket; a target beyond what the ends cost gets
    the nearer end. A dearer target never gets a cheaper place.
    """
    places, smooth = falling(costs, rising=cheap > dear)
    return np.interp(targets, smooth[::-1], places[::-1]).tolist()


def falling(
    costs: Mapping[float, float], *, rising: bool = True
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """(places, costs) from the dear end on, costs as the nearest sequence that never rises (pool
    adjacent violators, Ayer et al., Annals of Mathematical Statistics 26(4), 1955).

    `rising`: places rise towards the cheap end.
    """
    places = sorted(costs, reverse=not rising)
    blocks: list[tuple[float, int]] = []  # (mean, size)
    for place in places:
        blocks.append((costs[place], 1))
        while len(blocks) > 1 and blocks[-2][0] < blocks[-1][0]:
            (left, m), (right, n) = blocks[-2:]
            blocks[-2:] = [((left * m + right * n) / (m + n), m + n)]
    return np.array(places), np.array([mean for mean, size in blocks for _ in range(size)])


def _next_place(
    targets: Sequence[float],
    costs: Mapping[float, float],
    *,
    dear: float,
    cheap: float,
    tolerance: float,
) -> float | None:
    """The middle of the bracket whose target is missed by most; None where nothing is left."""
    places, smooth = falling(costs, rising=cheap > dear)
    worst, middle = tolerance, None
    for target in targets:
        if not smooth[-1] <= target <= smooth[0]:
            continue
        right = int(np.argmax(smooth <= target))
        left = max(right - 1, 0)
        miss = min(abs(smooth[left] - target), abs(smooth[right] - target))
        if miss > worst and abs(places[right] - places[left]) > _NARROW * abs(cheap - dear):
            worst, middle = float(miss), float((places[left] + places[right]) / 2)
    return middle
