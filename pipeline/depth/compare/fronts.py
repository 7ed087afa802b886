"""Accuracy against compute of every method, from the points that were measured. Pure.

Shapes: `_S` seeds, `_P` problems, `_K` settings of a method; a point is (iterations, FLOPs,
accuracy) of one problem.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pipeline.depth.compare.depth_report import Fronts
from pipeline.measure.pareto import (
    RESAMPLES,
    Interval,
    area_interval,
    bootstrap,
    hypervolume,
    pareto_front,
)
from pipeline.measure.saving import cheapest_reaching, saving

Floats = NDArray[np.float64]
ITERATIONS, FLOPS, ACCURACY = 0, 1, 2

BEYOND = 1.05
"""The hypervolume's worst cost over the last undominated fixed depth's, so that this one counts a
little."""

TOLERANCE = 0.01
"""Accuracy that a saving may cost."""


@dataclass(frozen=True, kw_only=True)
class Yardstick:
    """What areas and hypervolumes are measured with: the fixed depths that no other dominates.

    A fixed depth that costs more and is no more accurate than another one changes none of it.
    """

    low: float  # FLOPs of the cheapest
    high: float  # FLOPs of the dearest, which is the most accurate
    floor: float  # accuracy of the cheapest

    @property
    def worst(self) -> tuple[float, float]:
        """The corner (FLOPs, accuracy) that a hypervolume is counted from.

        Its accuracy is that of the cheapest depth, which every method has: at a high enough price,
        or a loose enough threshold, all tokens stop there. What lies under it is common to all,
        whether or not their settings were measured that far down.
        """
        return self.high * BEYOND, self.floor


def yardstick(fixed: Floats) -> Yardstick:
    """Of fixed depths [_P, _K, 3]."""
    front = pareto_front(_plane(fixed, FLOPS).mean(axis=0))
    return Yardstick(low=float(front[0, 0]), high=float(front[-1, 0]), floor=float(front[0, 1]))


def fronts(
    fixed: Floats, methods: Mapping[str, Floats], *, policy: str, resamples: int = RESAMPLES
) -> Fronts:
    """The numbers of a comparison.

    - **hull_area**: mean over costs of a method's accuracy less the fixed depths' hull, which is
      what mixing them over problems reaches; costs are FLOPs from the cheapest to the dearest
      undominated fixed depth. 0 where these are one and the same.
    - **hypervolume**: share of the box from the corner `Yardstick.worst` to (no FLOPs, all right)
      that a method's settings dominate. hypervolume_ahead: the policy's less each method's on the
      same problems.
    - **iterations_saved, flops_saved**: `pipeline.measure.saving` at a tolerance of one point,
      with their intervals, and the accuracy at which they are had.

    Intervals resample problems, and the policy's seeds where it has several.

    Args:
        fixed: [_P, _K, 3] of the fixed depths, whose hull methods have to beat.
        methods: [_P, _K, 3] or [_S, _P, _K, 3] by name; `policy` is among them.
    """
    ruler = yardstick(fixed)
    planes = {name: _plane(points, FLOPS) for name, points in {"fixed": fixed, **methods}.items()}
    areas = {
        name: _area(planes[name], planes["fixed"], ruler, resamples=resamples) for name in methods
    }
    volumes = {name: _volume(points, ruler, resamples) for name, points in planes.items()}
    ahead = {
        name: _ahead(planes[policy], points, ruler, resamples)
        for name, points in planes.items()
        if name != policy
    }
    best, near = _best_and_near(fixed)
    return Fronts(
        reference=near,
        best_fixed=best,
        hull_area=areas[policy].estimate,
        hull_area_ci=[areas[policy].low, areas[policy].high],
        hull_area_by_method={name: _estimate(area) for name, area in areas.items()},
        hypervolume={name: volume.estimate for name, volume in volumes.items()},
        hypervolume_ci={name: [v.low, v.high] for name, v in volumes.items()},
        hypervolume_ahead={name: _estimate(difference) for name, difference in ahead.items()},
        **_saved("iterations_saved", fixed, methods[policy], ITERATIONS, resamples),
        **_saved("flops_saved", fixed, methods[policy], FLOPS, resamples),
    )


def _plane(points: Floats, unit: int) -> Floats:
    """(cost in the unit, accuracy)."""
    return points[..., [unit, ACCURACY]]


def _area(points: Floats, fixed: Floats, ruler: Yardstick, *, resamples: int) -> Interval:
    if ruler.low == ruler.high:
        return Interval(estimate=0.0, low=0.0, high=0.0)
    return area_interval(points, fixed, ruler.low, ruler.high, resamples=resamples)


def _volume(points: Floats, ruler: Yardstick, resamples: int) -> Interval:
    levels = points.ndim - 2
    over = tuple(range(levels))
    return bootstrap(
        lambda drawn: hypervolume(drawn.mean(axis=over), ruler.worst),
        [points],
        resamples=resamples,
        levels=levels,
    )


def _ahead(policy: Floats, method: Floats, ruler: Yardstick, resamples: int) -> Interval:
    """Of hypervolumes; one seed of a method serves all of the policy's."""
    levels = policy.ndim - 2
    over = tuple(range(levels))
    arrays = [a[None] if a.ndim < policy.ndim else a for a in (policy, method)]

    def difference(ours: Floats, theirs: Floats) -> float:
        one, other = (hypervolume(a.mean(axis=over), ruler.worst) for a in (ours, theirs))
        return one - other

    return bootstrap(difference, arrays, resamples=resamples, levels=levels)


def _saved(key: str, fixed: Floats, policy: Floats, unit: int, resamples: int) -> dict[str, Any]:
    """The saving in a unit, by its keys in the report."""
    if len(fixed) < 2:  # no half to choose on
        return {key: None}
    share = saving(
        _plane(policy, unit), _plane(fixed, unit), tolerance=TOLERANCE, resamples=resamples
    )
    if share is None:
        return {key: None}
    return {
        key: share.cost.estimate,
        f"{key}_ci": [share.cost.low, share.cost.high],
        f"{key}_accuracy": _estimate(share.accuracy),
    }


def _best_and_near(fixed: Floats) -> list[dict[str, float]]:
    """The most accurate fixed depth, and the cheapest one within the tolerance of it."""
    curve = fixed.mean(axis=0)
    best = int(np.argmax(curve[:, ACCURACY]))
    near = cheapest_reaching(_plane(curve, FLOPS), curve[best, ACCURACY] - TOLERANCE)
    assert near is not None  # the best itself is within
    names = ("iterations", "flops", "accuracy")
    return [dict(zip(names, curve[row].tolist(), strict=True)) for row in (best, near)]


def _estimate(interval: Interval) -> list[float]:
    return [interval.estimate, interval.low, interval.high]
