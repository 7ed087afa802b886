"""Accuracy against compute: what fixed depths reach, what an oracle could, what a method gained.

A point is (cost, accuracy): cost in any one unit (FLOPs per answer, iterations), accuracy in
[0, 1]. Pure numpy.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

Floats = NDArray[np.float64]

RESAMPLES = 1000
PERCENTILES = (2.5, 97.5)  # of a 95 % interval
_SLACK = 1e-9  # relative: costs that differ by less are rounding


@dataclass(frozen=True, kw_only=True)
class Interval:
    """An estimate with its 95 % percentile bootstrap interval."""

    estimate: float
    low: float
    high: float


def pareto_front(points: ArrayLike) -> Floats:
    """The points [N, 2] that no other dominates, by rising cost and accuracy.

    Raises ValueError where there is no point, or one is not finite.
    """
    best: list[Floats] = []
    for point in _sorted(points):
        if not best or point[1] > best[-1][1]:
            best.append(point)
    return np.array(best)


def upper_hull(points: ArrayLike) -> Floats:
    """Corners [M, 2] of the best that mixing points over problems reaches, by rising cost.

    A mixture may spend less than its budget, so accuracy rises from corner to corner; slopes fall
    (Andrew's monotone chain, Information Processing Letters 9(5), 1979).

    >>> upper_hull([(1, 0.2), (2, 0.3), (4, 0.8), (8, 0.7)]).tolist()
    [[1.0, 0.2], [4.0, 0.8]]
    """
    hull: list[Floats] = []
    for point in pareto_front(points):
        while len(hull) > 1 and _under(hull[-2], hull[-1], point):
            hull.pop()
        hull.append(point)
    return np.array(hull)


def accuracy_at(front: Floats, cost: ArrayLike) -> Floats:
    """Accuracy of a front or a hull [M, 2] at costs: straight between neighbouring points, as of
    mixtures or of a price that is continuous; flat after the last one, NaN under the first."""
    cost = np.asarray(cost, dtype=float)
    reached = np.interp(cost, front[:, 0], front[:, 1])
    return np.where(cost < front[0, 0] * (1 - _SLACK), np.nan, reached)


def accuracy_on_line(points: ArrayLike, cost: float) -> float:
    """Accuracy at a cost on the straight lines between neighbours by cost, of all points [N, 2] and
    not of their front: what mixing the two nearest settings comes to, nothing picked by its luck.

    Beyond the points' costs it is the nearest one's.
    """
    rows = np.asarray(points, dtype=float)
    rows = rows[np.argsort(rows[:, 0], kind="stable")]
    return float(np.interp(cost, rows[:, 0], rows[:, 1]))


def area_above_hull(points: ArrayLike, hull: Floats, low: float, high: float) -> float:
    """Mean of (a method's front - the fixed depths' hull) over costs from `low` to `high`.

    Signed, in accuracy. Where the method or the hull has no point cheap enough the difference
    counts as 0: there a budget falls back on the mixture. Exact: both are linear between their
    corners.

    Raises ValueError where the range is empty.
    """
    if not low < high:
        raise ValueError(f"the cost range from {low} to {high} is empty")
    front = pareto_front(points)
    corners = np.concatenate((front[:, 0], hull[:, 0], (low, high)))
    corners = np.unique(corners[(corners >= low) & (corners <= high)])
    middle, width = (corners[1:] + corners[:-1]) / 2, np.diff(corners)
    difference = accuracy_at(front, middle) - accuracy_at(hull, middle)
    return float(np.nan_to_num(difference) @ width / (high - low))


def hypervolume(points: ArrayLike, reference: tuple[float, float]) -> float:
    """Share of the box between `reference` and (cost 0, accuracy 1) that the points dominate.

    `reference` is the worst (cost, accuracy) that counts (Zitzler and Thiele, IEEE Transactions
    on Evolutionary Computation 3(4), 1999). Of one point inside it is
    (1 - cost / reference cost) (accuracy - reference accuracy) / (1 - reference accuracy).

    Raises ValueError for a reference with no box.
    """
    worst, floor = reference
    if worst <= 0 or floor >= 1:
        raise ValueError(f"reference {reference} leaves no box: cost over 0, accuracy under 1")
    front = pareto_front(points)
    front = front[(front[:, 0] < worst) & (front[:, 1] > floor)]
    dominated_to = np.append(front[1:, 0], worst)
    area = (dominated_to - front[:, 0]) @ (front[:, 1] - floor) if len(front) else 0.0
    return float(area / (worst * (1 - floor)))


def spearman(a: ArrayLike, b: ArrayLike) -> float:
    """Rank correlation of two sequences, ties at their mean rank; NaN where one is constant.

    Raises ValueError where the lengths differ.
    """
    first, second = _ranks(np.asarray(a, dtype=float)), _ranks(np.asarray(b, dtype=float))
    if first.shape != second.shape:
        raise ValueError(f"{len(first)} and {len(second)} values do not pair up")
    first, second = first - first.mean(), second - second.mean()
    scale = float(np.sqrt((first @ first) * (second @ second)))
    return float(first @ second) / scale if scale else float("nan")


def waste_and_shortfall(depth: ArrayLike, needed: ArrayLike) -> tuple[float, float]:
    """(share of the iterations run that were above need, share of those needed that were missing).

    Both [N], iterations of a token or a problem and how many it needed.
    """
    ran, need = np.asarray(depth, dtype=float), np.asarray(needed, dtype=float)
    above, below = np.maximum(ran - need, 0).sum(), np.maximum(need - ran, 0).sum()
    return float(above / ran.sum()), float(below / need.sum())


def _sorted(points: ArrayLike) -> Floats:
    """[N, 2] by rising cost, the most accurate of equal costs first."""
    rows = np.asarray(points, dtype=float).reshape(-1, 2)
    if not len(rows) or not np.isfinite(rows).all():
        raise ValueError(f"needs at least one point, all of them finite; got {rows.tolist()}")
    return rows[np.lexsort((-rows[:, 1], rows[:, 0]))]


def _under(left: Floats, middle: Floats, right: Floats) -> bool:
    """Whether the middle point is on or under the line from left to right."""
    (x1, y1), (x2, y2) = middle - left, right - left
    return bool(x1 * y2 >= x2 * y1)


def _ranks(values: Floats) -> Floats:
    """Ranks from 1, ties at their mean."""
    _, inverse, counts = np.unique(values, return_inverse=True, return_counts=True)
    last = counts.cumsum()
    return (last - (counts - 1) / 2)[inverse]
