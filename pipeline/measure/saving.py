"""What a method saves where it is as accurate as the best fixed depth. Pure numpy.

"The cheapest setting that is accurate enough" is a choice, and the cheapest of many was often just
the luckiest on the problems at hand. So every choice is made on one half of the problems, and what
comes of it is read off the other half.

Shapes: `_S` seeds, `_P` problems, `_K` settings of a method, `_R` fixed depths. A point is (cost,
accuracy) of one problem.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from pipeline.measure.pareto import RESAMPLES, Floats, Interval
from pipeline.measure.resampling import draws_of, interval_of

_SLACK = 1e-9  # accuracies or, relatively, costs that differ by less are rounding


@dataclass(frozen=True, kw_only=True)
class Saving:
    """What a method's chosen setting does on problems that it was not chosen on."""

    cost: Interval  # share of the reference's cost that is saved
    accuracy: Interval  # the setting's less the best fixed depth's


def saving(
    method: ArrayLike,
    fixed: ArrayLike,
    *,
    tolerance: float,
    half: Sequence[int] | None = None,
    resamples: int = RESAMPLES,
    seed: int = 0,
) -> Saving | None:
    """Cost saved within `tolerance` of the best fixed depth's accuracy; None: never within it at
    less than the fixed depths' cost.

    On one half, the best accuracy of a
    fixed depth less `tolerance` is the target; the reference is the cheapest fixed depth that
    reaches it, the setting the method's cheapest that does (by the mean over seeds); where that
    costs more than the reference, the reference has to run and nothing is saved. The tolerance
    enters here and nowhere else. On the other half, the saving is 1 - the setting's cost / the
    reference's, and the accuracy is the setting's less that of the depth which was best on the
    first half: it tells whether the claim holds. Both ways round, and the mean of the two.

    Intervals draw seeds, and problems within each half, so that nothing is chosen and reported on
    the same problem.

    Args:
        method: [_P, _K, 2], or [_S, _P, _K, 2].
        fixed: [_P, _R, 2].
        half: [_P] 0 or 1; default: problems of even and of odd number.

    Raises ValueError for fewer than two problems.
    """
    points, depths = np.asarray(method, dtype=float), np.asarray(fixed, dtype=float)
    if len(depths) < 2:
        raise ValueError(f"{len(depths)} problem has no half to choose on: compare at least 2")
    halves = np.arange(len(depths)) % 2 if half is None else np.asarray(half)
    seeds = len(points) if points.ndim == 4 else 1
    draws = draws_of(halves, seeds=seeds, resamples=resamples, seed=seed)
    curves = [(draws.curves(points, half=h), draws.curves(depths, half=h)) for h in (0, 1)]
    ways = [
        _both_ways([(ours[draw], theirs[draw]) for ours, theirs in curves], tolerance=tolerance)
        for draw in range(1 + resamples)
    ]
    if not any(way.reached for way in ways[0]):
        return None
    cost, accuracy = (interval_of(values) for values in np.array([_mean(both) for both in ways]).T)
    return Saving(cost=cost, accuracy=accuracy)


def cheapest_reaching(curve: Floats, target: float) -> int | None:
    """Which of the points [N, 2] is the cheapest with at least the target's accuracy.

    >>> cheapest_reaching(np.array([(1, 0.2), (4, 0.8), (8, 0.8)]), 0.79)
    1
    """
    (enough,) = np.nonzero(curve[:, 1] >= target - _SLACK)
    return int(enough[np.argmin(curve[enough, 0])]) if len(enough) else None


@dataclass(frozen=True, kw_only=True)
class _Way:
    """What one half chose, as it does on the other."""

    saved: float
    accuracy: float
    reached: bool  # the target, on the half that chose, at no more than the reference's cost


def _both_ways(curves: Sequence[tuple[Floats, Floats]], *, tolerance: float) -> list[_Way]:
    """`curves` of both halves: the method's [_K, 2] and the fixed depths' [_R, 2] of each."""
    return [
        _way(chosen_on, reported, tolerance=tolerance)
        for chosen_on, reported in (curves, curves[::-1])
    ]


def _way(
    chosen_on: tuple[Floats, Floats], reported: tuple[Floats, Floats], *, tolerance: float
) -> _Way:
    """Both are the curves of the method [_K, 2] and of the fixed depths [_R, 2]."""
    best = int(np.argmax(chosen_on[1][:, 1]))
    target = float(chosen_on[1][best, 1]) - tolerance
    reference = cheapest_reaching(chosen_on[1], target)
    assert reference is not None  # the best depth itself is within
    setting = cheapest_reaching(chosen_on[0], target)
    there, best_there = reported[1][reference], float(reported[1][best, 1])
    if setting is not None and chosen_on[0][setting, 0] > chosen_on[1][reference, 0] * (1 + _SLACK):
        setting = None
    here = there if setting is None else reported[0][setting]
    return _Way(
        saved=1 - float(here[0] / there[0]),
        accuracy=float(here[1]) - best_there,
        reached=setting is not None,
    )


def _mean(ways: Sequence[_Way]) -> tuple[float, float]:
    """(saving, accuracy) over both ways round."""
    return sum(w.saved for w in ways) / len(ways), sum(w.accuracy for w in ways) / len(ways)
