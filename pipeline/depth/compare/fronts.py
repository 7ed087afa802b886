"""The numbers of the Pareto report, from every method's points. Pure.

Shapes: `_S` seeds, `_P` problems, `_K` settings of a method; a point is (iterations, FLOPs,
accuracy) of one problem.
"""

import itertools
import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pipeline.depth.compare.need import Spent
from pipeline.measure.headroom import Headroom
from pipeline.measure.pareto import (
    Interval,
    area_interval,
    bootstrap,
    cheapest_within,
    hypervolume,
    savings,
    spearman,
    waste_and_shortfall,
)

Floats = NDArray[np.float64]
ITERATIONS, FLOPS, ACCURACY = 0, 1, 2

BEYOND = 1.05
"""The hypervolume's reference cost over the deepest fixed depth's, so that this counts a little."""

TOLERANCE = 0.01
"""Accuracy that a saving may cost."""


def fronts(
    fixed: Floats, methods: Mapping[str, Floats], *, policy: str, resamples: int = 1000
) -> dict[str, Any]:
    """Hull area, hypervolumes and savings.

    Args:
        fixed: [_P, _K, 3] of the fixed depths, whose hull methods have to beat.
        methods: [_P, _K, 3] or [_S, _P, _K, 3] by name; `policy` is among them.

    Returns:
        hull_area and hull_area_ci of the policy (accuracy, mean over the fixed depths' range of
        FLOPs), hull_area_by_method, hypervolume and hypervolume_ci by method (share of the box
        from 0 to 1.05 of the deepest fixed depth's FLOPs), hypervolume_ahead (the policy's less
        each method's, on the same problems), iterations_saved and flops_saved
        (share, None where the policy does not reach the accuracy) and reference (the cheapest
        fixed depth within a point of the best).
    """
    costs = fixed[..., FLOPS].mean(axis=0)
    low, high = float(costs.min()), float(costs.max())
    everyone = {"fixed": fixed, **methods}
    areas = {
        name: area_interval(
            _plane(points, FLOPS), _plane(fixed, FLOPS), low, high, resamples=resamples
        )
        for name, points in methods.items()
    }
    volumes = {
        name: _volume(_plane(points, FLOPS), high * BEYOND, resamples=resamples)
        for name, points in everyone.items()
    }
    ahead = {
        name: _ahead(
            _plane(methods[policy], FLOPS), _plane(points, FLOPS), high * BEYOND, resamples
        )
        for name, points in everyone.items()
        if name != policy
    }
    saved = {unit: _saved(fixed, methods[policy], unit) for unit in (ITERATIONS, FLOPS)}
    return {
        "hull_area": areas[policy].estimate,
        "hull_area_ci": [areas[policy].low, areas[policy].high],
        "hull_area_by_method": {name: _interval(area) for name, area in areas.items()},
        "hypervolume": {name: volume.estimate for name, volume in volumes.items()},
        "hypervolume_ci": {name: [v.low, v.high] for name, v in volumes.items()},
        "hypervolume_ahead": {name: _interval(difference) for name, difference in ahead.items()},
        "iterations_saved": saved[ITERATIONS],
        "flops_saved": saved[FLOPS],
        "reference": _reference(fixed),
    }


def need(spent: Sequence[Spent], iterations: Mapping[int, int]) -> dict[str, Any]:
    """How well depth followed need, over positions whose needed steps are known.

    Args:
        iterations: needed by a number of steps; a number between takes the next one's.

    Returns:
        spearman (depth against needed steps, over positions that the answer depends on),
        spearman_all (also the others, which need one step), waste and shortfall (shares of
        iterations), the mean depth of both kinds of positions, and the iterations by steps. None
        where too little was written to tell.
    """
    asked = [s for s in spent if s.asked]
    idle = [s for s in spent if not s.asked]
    if len(asked) < 2 or not iterations:
        return dict.fromkeys(("spearman", "spearman_all", "waste", "shortfall"))
    waste, shortfall = waste_and_shortfall(
        [s.depth for s in spent], [_iterations_for(s.needed_steps, iterations) for s in spent]
    )
    return {
        "spearman": number(spearman([s.depth for s in asked], [s.steps for s in asked])),
        "spearman_all": number(spearman([s.depth for s in spent], [s.needed_steps for s in spent])),
        "waste": waste,
        "shortfall": shortfall,
        "depth_asked": sum(s.depth for s in asked) / len(asked),
        "depth_idle": sum(s.depth for s in idle) / len(idle) if idle else None,
        "iterations_by_steps": {str(steps): depth for steps, depth in iterations.items()},
    }


def slider(budgets: Sequence[float], spent: Sequence[float], *, reach: float) -> dict[str, Any]:
    """budget_error (largest |spent - asked| as a share of `reach`, the range of what can be asked
    for) and monotone (a greater budget never spends less)."""
    errors = [abs(s - b) / reach for b, s in zip(budgets, spent, strict=True)]
    return {
        "budget_error": max(errors),
        "monotone": all(a <= b for a, b in itertools.pairwise(spent)),
        "budgets": [{"budget": b, "spent": s} for b, s in zip(budgets, spent, strict=True)],
    }


def unseen_budgets(table: Sequence[float], *, count: int) -> list[float]:
    """`count` budgets over the range of a calibration's, at the middles of equal parts of it."""
    low, high = min(table), max(table)
    return [low + (high - low) * (part + 0.5) / count for part in range(count)]


def headroom_summary(found: Headroom) -> dict[str, Any]:
    """A headroom as the JSON document has it."""
    best = found.best_at_equal_cost.points
    return {
        "verdict": found.verdict,
        "reason": found.reason,
        "points": best.estimate,
        "points_ci": [best.low, best.high],
        "oracle_points": found.oracle.points.estimate,
    }


def number(value: float) -> float | None:
    """The value, or None where it is not a number, which JSON has no word for."""
    return None if math.isnan(value) else value


def _plane(points: Floats, unit: int) -> Floats:
    """(cost in the unit, accuracy)."""
    return points[..., [unit, ACCURACY]]


def _volume(points: Floats, worst: float, *, resamples: int) -> Interval:
    levels = points.ndim - 2
    over = tuple(range(levels))
    return bootstrap(
        lambda some: hypervolume(some.mean(axis=over), (worst, 0.0)),
        [points],
        resamples=resamples,
        levels=levels,
    )


def _ahead(policy: Floats, method: Floats, worst: float, resamples: int) -> Interval:
    """Of hypervolumes; one seed of a method serves all of the policy's."""
    levels = policy.ndim - 2
    over = tuple(range(levels))
    arrays = [a[None] if a.ndim < policy.ndim else a for a in (policy, method)]

    def difference(ours: Floats, theirs: Floats) -> float:
        one, other = (hypervolume(a.mean(axis=over), (worst, 0.0)) for a in (ours, theirs))
        return one - other

    return bootstrap(difference, arrays, resamples=resamples, levels=levels)


def _saved(fixed: Floats, method: Floats, unit: int) -> float | None:
    over = tuple(range(method.ndim - 2))
    curve = _plane(fixed, unit).mean(axis=0)
    reference = cheapest_within(curve, curve[:, 1].max(), tolerance=TOLERANCE)
    assert reference is not None  # the best itself is within
    found = savings(_plane(method, unit).mean(axis=over), reference, tolerance=TOLERANCE)
    return None if found is None else found.saved


def _reference(fixed: Floats) -> dict[str, float]:
    curve = fixed.mean(axis=0)
    best = curve[:, ACCURACY].max()
    row = min((r for r in curve if r[ACCURACY] >= best - TOLERANCE - 1e-9), key=lambda r: r[FLOPS])
    return {"iterations": float(row[0]), "flops": float(row[1]), "accuracy": float(row[2])}


def _iterations_for(steps: int, iterations: Mapping[int, int]) -> int:
    enough = [depth for known, depth in iterations.items() if known >= steps]
    return min(enough, default=max(iterations.values()))


def _interval(found: Interval) -> list[float]:
    return [found.estimate, found.low, found.high]
