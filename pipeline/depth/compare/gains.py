"""What the policy gains at equal FLOPs: over mixed fixed depths, and over each rival. Pure.

Shapes: `_D` draws of problems and seeds, of which the first is all of them once; `_S` seeds, `_K`
settings of a method, `_R` fixed depths. A point is (FLOPs, accuracy).
"""

from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from pipeline.depth.compare.depth_report import GainAt
from pipeline.measure.pareto import Floats, accuracy_at, accuracy_on_line, upper_hull
from pipeline.measure.resampling import interval_of, sign_flip_p

FIXED = "fixed"


def stated_flops(fixed: Floats, mean_depth: float) -> float:
    """FLOPs at a mean depth, of fixed depths 1 to _R [_R, 2]: those of mixing its neighbours."""
    return float(np.interp(mean_depth, np.arange(1, len(fixed) + 1), fixed[:, 0]))


def accuracies_at(curves: Mapping[str, Floats], mean_depth: float) -> dict[str, Floats]:
    """Accuracy [_D] of every method at the FLOPs of a mean depth, each draw at its own.

    Of fixed depths the best that mixing them reaches; of any other method what lies on the line
    between its two neighbouring settings, an end that a setting of its own beats left out.

    Args:
        curves: [_D, _K, 2] by method, with both ends of the fixed depths in each; `FIXED` is [_D,
            _R, 2] by rising depth.
    """
    fixed = curves[FIXED]
    costs = [stated_flops(draw, mean_depth) for draw in fixed]
    rows = {
        name: [
            accuracy_on_line(draw[points_on_line(draw)], cost)
            for draw, cost in zip(curve, costs, strict=True)
        ]
        for name, curve in curves.items()
        if name != FIXED
    }
    mixed = [
        float(accuracy_at(upper_hull(draw), cost)) for draw, cost in zip(fixed, costs, strict=True)
    ]
    return {name: np.array(row) for name, row in {FIXED: mixed, **rows}.items()}


def points_on_line(curve: Floats) -> NDArray[np.bool_]:
    """[_K] which points of a curve [_K, 2] its line goes through: all settings of its own, and an
    end of the fixed depths unless one of them costs no more and is as accurate.

    Nobody who has such a setting would mix with that end. Of the settings themselves none is left
    out, whatever its luck.
    """
    own = curve[1:-1]
    kept = np.ones(len(curve), dtype=bool)
    for end in (0, -1):  # of the fixed depths
        cost, accuracy = curve[end]
        kept[end] = not ((own[:, 0] <= cost) & (own[:, 1] >= accuracy)).any()
    return kept


def gains_at(
    curves: Mapping[str, Floats], by_seed: Floats, mean_depth: float, *, policy: str
) -> dict[str, GainAt]:
    """The policy's accuracy less each other method's at the FLOPs of a mean depth, over the same
    problems in every draw.

    Args:
        curves: as in `accuracies_at`; `policy` is among them.
        by_seed: [_S, _K, 2], every seed of the policy by itself over all problems, ends included.
    """
    accuracies = accuracies_at(curves, mean_depth)
    cost = stated_flops(curves[FIXED][0], mean_depth)
    of_seeds = [accuracy_on_line(curve[points_on_line(curve)], cost) for curve in by_seed]
    return {
        name: _gain(accuracies[policy] - accuracy, [own - float(accuracy[0]) for own in of_seeds])
        for name, accuracy in accuracies.items()
        if name != policy
    }


def _gain(difference: Floats, by_seed: Sequence[float]) -> GainAt:
    interval = interval_of(difference)
    return GainAt(
        gain=interval.estimate,
        ci_low=interval.low,
        ci_high=interval.high,
        by_seed=list(by_seed),
        p_seeds=sign_flip_p(by_seed),
    )
