"""Is there anything for a depth policy to gain? An oracle per problem against mixed fixed depths.

Shapes: `_P` problems, `_R` depths, `_N` samples of a cell, `_L` prices. Gains are in points
(hundredths of accuracy). Pure numpy.
"""

from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray

from pipeline.measure.accuracy import mean_scored
from pipeline.measure.pareto import RESAMPLES, Floats, Interval, accuracy_at, upper_hull

Verdict = Literal["go", "no go", "undecided"]

WORTH_POINTS = 1.0
"""A smaller gain is not worth a depth stage; ours."""

RIGHT = 0.5
"""Accuracy from which a depth counts as right for a problem; ours."""

_PRICES = np.concatenate(([0.0], np.geomspace(1e-2, 1e3, 60)))
"""Prices of compute, in accuracy per whole range of costs."""


@dataclass(frozen=True, kw_only=True)
class Gain:
    """An oracle, the mixture of fixed depths at its mean cost, and their difference in points."""

    cost: float
    accuracy: float
    hull_accuracy: float
    points: Interval


@dataclass(frozen=True, kw_only=True)
class Headroom:
    """What an oracle gains, and whether a depth stage is worth it."""

    cost: tuple[float, ...]  # [_R], rising
    accuracy: tuple[float, ...]  # [_R] of fixed depths
    hull: tuple[tuple[float, float], ...]
    oracle: Gain  # each problem at its cheapest depth that is right
    best_at_equal_cost: Gain  # the largest gain over a sweep of the price of compute
    cross_fitted: bool  # depths were chosen on one half of the samples, scored on the other
    problems: int
    samples: int
    verdict: Verdict
    reason: str  # the verdict in a sentence, with its numbers


def headroom(correct: ArrayLike, cost: ArrayLike, *, seed: int = 0) -> Headroom:
    """How far an oracle that knows each problem's best depth beats mixed fixed depths.

    An oracle that picks a depth on the very samples it is scored on gains from luck alone. Where
    cells hold several samples, depths (and the price of `best_at_equal_cost`) are therefore chosen
    on one half and scored on the other, both ways round, and the gains are averaged. With one
    value per cell they cannot be: the result says that it is an upper bound, and never "go".

    Args:
        correct: [_P, _R] accuracies in [0, 1], or [_P, _R, _N] single samples; NaN: not scored.
            Problems without a score to choose on, or to score on, at some depth are left out.
        cost: [_R] cost of each depth.

    "go" needs a gain of at least WORTH_POINTS, with an interval above 0; "no go" an interval below
    them. Intervals are over problems, depth choices held.

    Raises ValueError where the shapes do not fit or accuracies leave [0, 1].
    """
    cells, costs = _checked(correct, cost)
    folds = _folds(cells)
    fixed = mean_scored(cells, axis=2)
    cheapest_right = [_cheapest_right(chosen_on) for chosen_on, _ in folds]
    prices = _PRICES / max(costs[-1] - costs[0], 1e-12)
    by_price = [_best_by_price(chosen_on, costs, prices) for chosen_on, _ in folds]
    swept = [
        depths[:, _largest_gain(chosen_on, depths, costs)]
        for (chosen_on, _), depths in zip(folds, by_price, strict=True)
    ]
    weights = _weights(len(cells), seed=seed)
    oracle = _gain(folds, cheapest_right, fixed, costs, weights)
    best = _gain(folds, swept, fixed, costs, weights)
    cross_fitted = len(folds) > 1
    verdict = _verdict(best.points, cross_fitted=cross_fitted)
    return Headroom(
        cost=tuple(costs.tolist()),
        accuracy=tuple(fixed.mean(axis=0).tolist()),
        hull=tuple((c, a) for c, a in upper_hull(_curve(fixed, costs)).tolist()),
        oracle=oracle,
        best_at_equal_cost=best,
        cross_fitted=cross_fitted,
        problems=cells.shape[0],
        samples=cells.shape[2],
        verdict=verdict,
        reason=_reason(verdict, oracle, best, cross_fitted=cross_fitted),
    )


def _checked(correct: ArrayLike, cost: ArrayLike) -> tuple[Floats, Floats]:
    """Cells [_P, _R, _N] and costs [_R], both by rising cost."""
    cells, costs = np.asarray(correct, dtype=float), np.asarray(cost, dtype=float)
    if cells.ndim == 2:
        cells = cells[:, :, None]
    if cells.ndim != 3 or costs.shape != cells.shape[1:2] or not cells.size:
        raise ValueError(
            f"correct has the shape {np.shape(correct)} and cost {costs.shape}: "
            "give [_P, _R] or [_P, _R, _N], and [_R]"
        )
    if not (np.isnan(cells) | ((cells >= 0) & (cells <= 1))).all():
        raise ValueError("correct holds values outside [0, 1]")
    scored = np.stack([~np.isnan(fold).any(axis=1) for fold in _folds(cells)[0]]).all(axis=0)
    if not scored.any():
        raise ValueError("no problem was scored at every depth: see the rewards' verdicts")
    order = np.argsort(costs, kind="stable")
    return cells[scored][:, order], costs[order]


def _folds(cells: Floats) -> list[tuple[Floats, Floats]]:
    """(accuracies to choose depths on, accuracies to score them on), [_P, _R] each."""
    if cells.shape[2] == 1:
        return [(cells[:, :, 0], cells[:, :, 0])]
    even, odd = (mean_scored(cells[:, :, first::2], axis=2) for first in (0, 1))
    return [(even, odd), (odd, even)]


def _cheapest_right(accuracy: Floats) -> NDArray[np.int64]:
    """[_P] each problem's cheapest right depth; the cheapest of all where none is right."""
    return np.argmax(accuracy >= RIGHT, axis=1)


def _best_by_price(accuracy: Floats, cost: Floats, prices: Floats) -> NDArray[np.int64]:
    """[_P, _L] each problem's argmax of accuracy - price * cost, the cheapest of equals."""
    return np.stack([np.argmax(accuracy - price * cost, axis=1) for price in prices], axis=1)


def _largest_gain(accuracy: Floats, depths: NDArray[np.int64], cost: Floats) -> int:
    """The column of `depths` [_P, _L] that beats the mixture of fixed depths by most."""
    reached = np.take_along_axis(accuracy, depths, axis=1).mean(axis=0)
    mixed = accuracy_at(upper_hull(_curve(accuracy, cost)), cost[depths].mean(axis=0))
    return int(np.argmax(reached - mixed))


def _gain(
    folds: list[tuple[Floats, Floats]],
    depths: list[NDArray[np.int64]],
    fixed: Floats,
    cost: Floats,
    weights: Floats,
) -> Gain:
    """The gain of chosen depths, one [_P] for each fold.

    Each fold is compared at its own cost; the first row of `weights` counts every problem once.
    """
    problems = len(fixed)
    spent = weights @ np.stack([cost[chosen] for chosen in depths], axis=1) / problems
    scores = [
        np.take_along_axis(scored_on, chosen[:, None], axis=1)[:, 0]
        for (_, scored_on), chosen in zip(folds, depths, strict=True)
    ]
    reached = weights @ np.stack(scores, axis=1) / problems
    curves = weights @ fixed / problems
    mixed = np.stack(
        [
            accuracy_at(upper_hull(np.stack((cost, curve), axis=1)), at)
            for curve, at in zip(curves, spent, strict=True)
        ]
    )
    gains = 100 * (reached - mixed).mean(axis=1)
    low, high = np.percentile(gains[1:], (2.5, 97.5))
    return Gain(
        cost=float(spent[0].mean()),
        accuracy=float(reached[0].mean()),
        hull_accuracy=float(mixed[0].mean()),
        points=Interval(estimate=float(gains[0]), low=float(low), high=float(high)),
    )


def _weights(problems: int, *, seed: int) -> Floats:
    """[1 + RESAMPLES, _P] counts: every problem once, then draws with replacement."""
    rng = np.random.default_rng(seed)
    drawn = rng.multinomial(problems, np.full(problems, 1 / problems), size=RESAMPLES)
    return np.concatenate((np.ones((1, problems)), drawn.astype(float)))


def _curve(accuracy: Floats, cost: Floats) -> Floats:
    """Points [_R, 2] of the fixed depths."""
    return np.stack((cost, accuracy.mean(axis=0)), axis=1)


def _verdict(points: Interval, *, cross_fitted: bool) -> Verdict:
    if points.high < WORTH_POINTS:
        return "no go"
    enough = points.estimate >= WORTH_POINTS and points.low > 0
    return "go" if enough and cross_fitted else "undecided"


def _reason(verdict: Verdict, oracle: Gain, best: Gain, *, cross_fitted: bool) -> str:
    p = best.points
    grounds = {
        "go": f"an oracle gains at least the {WORTH_POINTS:g} points that a depth stage is worth",
        "no go": f"even an oracle gains less than the {WORTH_POINTS:g} points that would be worth "
        "a depth stage",
        "undecided": f"the interval reaches across {WORTH_POINTS:g} points or 0; take more problems"
        if cross_fitted
        else "take several samples of every problem at every depth to tell depth from luck",
    }[verdict]
    kind = (
        "depths chosen on one half of the samples and scored on the other"
        if cross_fitted
        else "an upper bound: depths were chosen and scored on the same samples"
    )
    return (
        f"{verdict}: {grounds}. At cost {best.cost:.4g} it reaches {best.accuracy:.1%} where mixed "
        f"fixed depths reach {best.hull_accuracy:.1%}: {p.estimate:+.1f} points "
        f"({p.low:+.1f} to {p.high:+.1f}). At the cheapest right depth of each problem, cost "
        f"{oracle.cost:.4g}, it gains {oracle.points.estimate:+.1f} points. ({kind})"
    )
