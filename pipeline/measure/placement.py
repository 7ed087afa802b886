"""Where a knob stands so that what it turns costs what is asked for: bisection. Pure.

The cost falls from the knob's dear end to its cheap end, but for noise: a price, a threshold. Every
measurement serves all targets, so that several cost little more than one.
"""

from collections.abc import Callable, Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

_NARROW = 1e-6  # share of the knob's way; a bracket that is narrower holds a jump


def placed(
    targets: Sequence[float],
    cost: Callable[[float], float],
    *,
    dear: float,
    cheap: float,
    measurements: int,
) -> list[float]:
    """The place of the knob for every target, by its cost.

    Both ends are measured, then the middle of the bracket whose target is farthest from any cost
    measured so far. A place is read off the straight line through its bracket; a target beyond
    what the ends cost gets the nearer end. A dearer target never gets a cheaper place.

    Args:
        targets: costs, any order.
        cost: of the knob at a place, measured; as noisy as it may be.
        dear: the place that costs most.
        cheap: the place that costs least, over or under `dear`.
        measurements: calls of `cost` at most, 2 or more.
    """
    costs = searched(targets, cost, {}, dear=dear, cheap=cheap, measurements=measurements)
    places, smooth = falling(costs, rising=cheap > dear)
    return np.interp(targets, smooth[::-1], places[::-1]).tolist()


def searched(
    targets: Sequence[float],
    cost: Callable[[float], float],
    known: Mapping[float, float],
    *,
    dear: float,
    cheap: float,
    measurements: int,
    tolerance: float = 0.0,
) -> dict[float, float]:
    """Costs by place: `known` ones, both ends, and up to `measurements` in all that were made here.

    Nothing more is measured for a target that some cost meets within `tolerance`, that lies beyond
    the ends, or whose bracket holds a jump.

    Raises ValueError for fewer measurements than there are ends to measure.
    """
    costs = dict(known)
    new = [end for end in (dear, cheap) if end not in costs]
    if measurements < len(new):
        raise ValueError(f"{measurements} measurements do not hold both ends of a knob: give 2")
    for end in new:
        costs[end] = cost(end)
    for _ in range(measurements - len(new)):
        place = _next_place(targets, costs, dear=dear, cheap=cheap, tolerance=tolerance)
        if place is None:
            break
        costs[place] = cost(place)
    return costs


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
