"""Draws of problems and seeds with replacement, the same for all that is compared. Pure numpy.

Shapes: `_S` seeds, `_P` problems, `_K` settings, `_D` draws, of which the first counts everything
once. Seeds and problems are drawn each on its own (a crossed design): all seeds answer the same
problems.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from pipeline.measure.pareto import PERCENTILES, RESAMPLES, Floats, Interval

EXACT_FROM = 5
"""Seeds from which an exact test over them can say anything: 2^-5 is under 0.05."""


@dataclass(frozen=True, kw_only=True)
class Draws:
    """How much each problem and each seed weighs in every draw."""

    problems: Floats  # [_D, _P], each row sums to 1
    seeds: Floats  # [_D, _S], each row sums to 1
    half: NDArray[np.int64]  # [_P] 0 or 1: the half that a problem belongs to

    def curves(self, points: ArrayLike, *, half: int | None = None) -> Floats:
        """Means [_D, _K, C] of [_P, _K, C], or of [_S, _P, _K, C], over problems and seeds; of one
        half of the problems alone where it is named."""
        rows = np.asarray(points, dtype=float)
        rows = rows[None] if rows.ndim == 3 else rows
        weights = self.problems
        if half is not None:
            weights = weights * (self.half == half)
            weights = weights / weights.sum(axis=1, keepdims=True)
        by_seed = np.stack([np.tensordot(weights, seed, axes=1) for seed in rows])
        if len(by_seed) == 1:
            return by_seed[0]
        return np.einsum("ds,sdkc->dkc", self.seeds, by_seed)


def draws_of(
    half: Sequence[int] | NDArray[np.int64],
    *,
    seeds: int,
    resamples: int = RESAMPLES,
    seed: int = 0,
) -> Draws:
    """`resamples` draws after the first. Problems are drawn within each half, so that what was
    chosen on one is never reported on it.

    Raises ValueError where there is no problem or no seed.
    """
    halves = np.asarray(half, dtype=np.int64)
    if not len(halves) or seeds < 1:
        raise ValueError(f"{len(halves)} problems and {seeds} seeds: there is nothing to draw")
    rng = np.random.default_rng(seed)
    counts = np.ones((1 + resamples, len(halves)))
    for label in np.unique(halves):
        (members,) = np.nonzero(halves == label)
        even = np.full(len(members), 1 / len(members))
        counts[1:, members] = rng.multinomial(len(members), even, size=resamples)
    by_seed = np.ones((1 + resamples, seeds))
    by_seed[1:] = rng.multinomial(seeds, np.full(seeds, 1 / seeds), size=resamples)
    return Draws(problems=counts / len(halves), seeds=by_seed / seeds, half=halves)


def interval_of(values: ArrayLike) -> Interval:
    """The first of [_D] with the 95 % percentile interval of the rest."""
    drawn = np.asarray(values, dtype=float)
    low, high = np.percentile(drawn[1:], PERCENTILES)
    return Interval(estimate=float(drawn[0]), low=float(low), high=float(high))


def sign_flip_p(gains: Sequence[float]) -> float | None:
    """How often signs drawn at random would make the mean of the seeds' gains as high.

    Exactly, over all 2^_S signs (Fisher's randomisation test, one-sided). None under `EXACT_FROM`
    seeds.

    >>> sign_flip_p([0.1, 0.2, 0.1, 0.3, 0.2])
    0.03125
    """
    values = np.asarray(gains, dtype=float)
    if len(values) < EXACT_FROM:
        return None
    signs = 1 - 2 * ((np.arange(2 ** len(values))[:, None] >> np.arange(len(values))) & 1)
    return float(np.mean(signs @ values >= values.sum() - 1e-12))
