"""Accuracy against compute of every method, from the points that were measured. Pure.

Shapes: `_S` seeds, `_P` problems, `_K` settings of a method, `_R` fixed depths, `_D` draws; a point
is (iterations, FLOPs, accuracy) of one problem.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from pipeline.depth.compare.depth_report import Estimate, Fronts
from pipeline.depth.compare.gains import FIXED, accuracies_at, gains_at, stated_flops
from pipeline.measure.pareto import (
    RESAMPLES,
    Floats,
    Interval,
    area_above_hull,
    hypervolume,
    pareto_front,
    upper_hull,
)
from pipeline.measure.resampling import draws_of, interval_of
from pipeline.measure.saving import cheapest_reaching, saving
from pipeline.recipe.depth_parts import STATED_DEPTHS

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

        Its accuracy is that of depth 1, which every method has.
        """
        return self.high * BEYOND, self.floor


def yardstick(fixed: Floats) -> Yardstick:
    """Of fixed depths [_R, 2], (FLOPs, accuracy)."""
    front = pareto_front(fixed)
    return Yardstick(low=float(front[0, 0]), high=float(front[-1, 0]), floor=float(front[0, 1]))


def with_ends(points: Floats, fixed: Floats) -> Floats:
    """A method's points [..., _P, _K, 3] between those of everything at depth 1 and at full depth,
    which can be had with any method: [..., _P, _K + 2, 3]."""
    ends = np.broadcast_to(fixed[:, [0, -1]], (*points.shape[:-2], 2, 3))
    return np.concatenate([ends[..., :1, :], points, ends[..., 1:, :]], axis=-2)


def fronts(
    fixed: Floats,
    methods: Mapping[str, Floats],
    *,
    policy: str,
    half: Sequence[int],
    resamples: int = RESAMPLES,
) -> Fronts:
    """The numbers of a comparison.

    - **gain_at**: by stated mean depth and method, the policy's accuracy less the method's at the
      FLOPs of that mean depth (`gains`); **accuracy_at**, **flops_at**: what they are.
    - **hull_area**: mean over costs of a method's accuracy less the fixed depths' hull, which is
      what mixing them over problems reaches; costs are FLOPs from the cheapest to the dearest
      undominated fixed depth. 0 where these are one and the same.
    - **hypervolume**: share of the box from the corner `Yardstick.worst` to (no FLOPs, all right)
      that a method's settings dominate. hypervolume_difference: the policy's less each method's.
    - **iterations_saved, flops_saved**: `pipeline.measure.saving` at a tolerance of one point,
      with their intervals, and the accuracy at which they are had.

    Both ends of the fixed depths belong to every method. Intervals resample problems, and the
    policy's seeds where it has several, the same draws for all methods.

    Args:
        fixed: [_P, _R, 3] of fixed depths 1 to the deepest, whose hull methods have to beat.
        methods: [_P, _K, 3] or [_S, _P, _K, 3] by name; `policy` is among them.
        half: [_P] 0 or 1, the half that settings were placed for by the other's problems.
    """
    whole = {FIXED: fixed, **{name: with_ends(some, fixed) for name, some in methods.items()}}
    planes = {name: _plane(points, FLOPS) for name, points in whole.items()}
    ours = planes[policy] if planes[policy].ndim == 4 else planes[policy][None]
    draws = draws_of(half, seeds=len(ours), resamples=resamples)
    curves = {name: draws.curves(points) for name, points in planes.items()}
    ruler = yardstick(curves[FIXED][0])
    areas = _areas(curves, ruler)
    volumes = _volumes(curves, ruler)
    best, near = _best_and_near(fixed)
    return Fronts(
        **_stated(curves, ours.mean(axis=1), policy=policy),
        reference=near,
        best_fixed=best,
        hull_area=areas[policy].estimate,
        hull_area_ci=[areas[policy].low, areas[policy].high],
        hull_area_by_method={name: _estimate(area) for name, area in areas.items()},
        hypervolume={name: float(drawn[0]) for name, drawn in volumes.items()},
        hypervolume_ci={name: _span(interval_of(drawn)) for name, drawn in volumes.items()},
        hypervolume_difference={
            name: _estimate(interval_of(volumes[policy] - drawn))
            for name, drawn in volumes.items()
            if name != policy
        },
        **_saved("iterations_saved", whole[policy], fixed, ITERATIONS, half, resamples),
        **_saved("flops_saved", whole[policy], fixed, FLOPS, half, resamples),
    )


def _plane(points: Floats, unit: int) -> Floats:
    """(cost in the unit, accuracy)."""
    return points[..., [unit, ACCURACY]]


def _stated(curves: Mapping[str, Floats], by_seed: Floats, *, policy: str) -> dict[str, Any]:
    """Gains, accuracies and FLOPs by stated mean depth, of those that the fixed depths reach."""
    stated = {f"{d:g}": d for d in STATED_DEPTHS if d <= curves[FIXED].shape[1]}
    return {
        "gain_at": {
            key: gains_at(curves, by_seed, depth, policy=policy) for key, depth in stated.items()
        },
        "accuracy_at": {
            key: {
                name: _estimate(interval_of(drawn))
                for name, drawn in accuracies_at(curves, depth).items()
            }
            for key, depth in stated.items()
        },
        "flops_at": {key: stated_flops(curves[FIXED][0], depth) for key, depth in stated.items()},
    }


def _areas(curves: Mapping[str, Floats], ruler: Yardstick) -> dict[str, Interval]:
    """Of every method but the fixed depths."""
    names = [name for name in curves if name != FIXED]
    if ruler.low == ruler.high:
        return dict.fromkeys(names, Interval(estimate=0.0, low=0.0, high=0.0))
    hulls = [upper_hull(draw) for draw in curves[FIXED]]
    return {
        name: interval_of(
            [
                area_above_hull(draw, hull, ruler.low, ruler.high)
                for draw, hull in zip(curves[name], hulls, strict=True)
            ]
        )
        for name in names
    }


def _volumes(curves: Mapping[str, Floats], ruler: Yardstick) -> dict[str, Floats]:
    """[_D] of every method."""
    return {
        name: np.array([hypervolume(draw, ruler.worst) for draw in curve])
        for name, curve in curves.items()
    }


def _saved(
    key: str, policy: Floats, fixed: Floats, unit: int, half: Sequence[int], resamples: int
) -> dict[str, Any]:
    """The saving in a unit, by its keys in the report."""
    if len(set(half)) < 2:  # no half to choose on
        return {key: None}
    share = saving(
        _plane(policy, unit),
        _plane(fixed, unit),
        tolerance=TOLERANCE,
        half=half,
        resamples=resamples,
    )
    if share is None:
        return {key: None}
    return {
        key: share.cost.estimate,
        f"{key}_ci": _span(share.cost),
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


def _estimate(interval: Interval) -> Estimate:
    return [interval.estimate, interval.low, interval.high]


def _span(interval: Interval) -> list[float]:
    return [interval.low, interval.high]
