"""Two models on the same prompts: how far they are apart, and whether chance does as much. Pure."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction

import numpy as np
from numpy.typing import NDArray

from pipeline.measure.accuracy import interval

FINEST = 240
"""Parts of an answer's worth that the exact test tells apart, where samples differ in number."""

Counts = tuple[int, int]
"""Of one prompt: samples that are right, and samples that were scored."""


@dataclass(frozen=True, kw_only=True)
class PairedTest:
    """A second model over a first one, on prompts that both answered."""

    problems: int
    accuracy_a: float
    accuracy_b: float
    delta: float  # of accuracy, the second less the first
    ci_low: float
    ci_high: float
    p_value: float  # two-sided; 1 where no prompt tells them apart
    better: int  # prompts of which the second has more right than the first
    worse: int


def paired_test(first: Sequence[Counts], second: Sequence[Counts]) -> PairedTest:
    """The difference of two models' accuracies [_P], each prompt beside itself.

    The interval (95 %) combines the two of `pipeline.measure.accuracy.interval` by how far the
    models are right on the same prompts: with one sample a prompt it is method 8 of Newcombe
    (Statistics in Medicine 17, 1998, 2635-2650), with several its generalisation (Zou and Donner,
    Statistics in Medicine 27, 2008, 1693-1702). The p-value is `sign_flip`'s.

    Raises ValueError where the lengths differ, or there is nothing to compare.
    """
    if len(first) != len(second) or not first:
        raise ValueError(f"{len(first)} and {len(second)} prompts do not pair up")
    rates = [[Fraction(right, scored) for right, scored in side] for side in (first, second)]
    a, b = (np.array([float(rate) for rate in side]) for side in rates)
    gains = [after - before for before, after in zip(*rates, strict=True)]
    low, high = _interval(a, b)
    return PairedTest(
        problems=len(gains),
        accuracy_a=float(a.mean()),
        accuracy_b=float(b.mean()),
        delta=float(sum(gains) / len(gains)),
        ci_low=low,
        ci_high=high,
        p_value=sign_flip(gains),
        better=sum(gain > 0 for gain in gains),
        worse=sum(gain < 0 for gain in gains),
    )


def sign_flip(gains: Sequence[Fraction]) -> float:
    """How often gains [_P] whose signs are drawn at random are as far from nothing in sum: Fisher's
    randomisation test, two-sided and exact. Of single answers it is McNemar's exact test.

    Gains that have no common part of `FINEST` or coarser are rounded to that.

    >>> sign_flip([Fraction(1)] * 5), sign_flip([Fraction(1), Fraction(-1)])
    (0.0625, 1.0)
    """
    parts = min(math.lcm(*(gain.denominator for gain in gains), 1), FINEST)
    steps = [round(gain * parts) for gain in gains]
    sizes = [abs(step) for step in steps if step]
    chances = np.ones(1)  # of every sum of the signs so far, from the lowest
    for size in sizes:
        wider = np.zeros(len(chances) + 2 * size)
        wider[: len(chances)] += chances / 2
        wider[2 * size :] += chances / 2
        chances = wider
    reach = abs(sum(steps))
    sums = np.arange(len(chances)) - sum(sizes)
    return min(1.0, float(chances[np.abs(sums) >= reach].sum()))


def _interval(a: NDArray[np.float64], b: NDArray[np.float64]) -> tuple[float, float]:
    """The 95 % interval of mean(b) - mean(a) of per-prompt rates [_P]."""
    mean_a, low_a, high_a = interval(a.tolist())
    mean_b, low_b, high_b = interval(b.tolist())
    varies = bool(a.std()) and bool(b.std())
    shared = float(np.corrcoef(a, b)[0, 1]) if varies else 0.0
    delta = mean_b - mean_a
    below = _joint(mean_b - low_b, high_a - mean_a, shared)
    above = _joint(high_b - mean_b, mean_a - low_a, shared)
    return max(-1.0, delta - below), min(1.0, delta + above)


def _joint(one: float, other: float, shared: float) -> float:
    return math.sqrt(max(0.0, one**2 + other**2 - 2 * shared * one * other))
