"""Accuracy of a model on prompts with several samples each. Pure arithmetic."""

import math
from collections import Counter
from collections.abc import Sequence

import numpy as np
from numpy.typing import ArrayLike, NDArray

Z95 = 1.959964  # 97.5 % quantile of the standard normal


def pass_at_k(correct: int, samples: int, k: int) -> float:
    """Unbiased probability that one of `k` samples is correct (arXiv 2107.03374, section 2.1).

    Raises ValueError when `k` exceeds `samples`.

    >>> pass_at_k(1, 4, 1), pass_at_k(1, 4, 4)
    (0.25, 1.0)
    """
    if k > samples:
        raise ValueError(f"pass@{k} needs at least {k} samples, there are {samples}")
    if samples - correct < k:
        return 1.0
    return 1.0 - math.comb(samples - correct, k) / math.comb(samples, k)


def majority_vote(answers: Sequence[str | None], right: Sequence[bool]) -> float:
    """Whether the answer that most samples of a prompt gave is right (self-consistency, arXiv
    2203.11171). Right answers are one, however they are written; None votes for nothing; of several
    with as many votes each counts alike.

    >>> majority_vote(["4", "four", "5", None], [True, True, False, False])
    1.0
    >>> majority_vote(["4", "5"], [True, False])
    0.5
    """
    votes = Counter(
        None if is_right else answer
        for answer, is_right in zip(answers, right, strict=True)
        if is_right or answer is not None
    )
    most = max(votes.values(), default=0)
    first = [answer for answer, count in votes.items() if count == most]
    return (None in first) / len(first) if first else 0.0


def interval(values: Sequence[float]) -> tuple[float, float, float]:
    """(mean, low, high): mean over prompts with a 95 % Wilson interval.

    `values` are per-prompt success rates in [0, 1]. With several samples a prompt the interval
    takes the number of independent draws that gives the standard error observed between prompts,
    so that samples of one prompt do not count as independent problems.
    """
    n = len(values)
    mean = sum(values) / n
    spread = sum((v - mean) ** 2 for v in values)
    draws = n if n < 2 or spread == 0.0 else mean * (1.0 - mean) * n * (n - 1) / spread
    return mean, *wilson(mean, max(draws, 1.0))


def wilson(rate: float, draws: float) -> tuple[float, float]:
    """The 95 % Wilson score interval (Wilson 1927) of a success rate in `draws` draws."""
    centre = rate + Z95**2 / (2 * draws)
    half = Z95 * math.sqrt(rate * (1 - rate) / draws + Z95**2 / (4 * draws**2))
    scale = 1 + Z95**2 / draws
    return max(0.0, (centre - half) / scale), min(1.0, (centre + half) / scale)


def mean_scored(values: ArrayLike, axis: int | None = None) -> NDArray[np.float64]:
    """Mean of what was scored, leaving out NaN; NaN where nothing was.

    >>> mean_scored([[1.0, float("nan")], [0.0, 1.0]], axis=1).tolist()
    [1.0, 0.5]
    """
    cells = np.asarray(values, dtype=float)
    scored = ~np.isnan(cells)
    total = np.where(scored, cells, 0.0).sum(axis=axis)
    with np.errstate(invalid="ignore"):
        return np.asarray(total / scored.sum(axis=axis))
