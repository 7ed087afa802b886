"""Scored groups as arrays. Pure.

Shapes: `_P` prompts, `_N` samples of each.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from pipeline.generate.groups import Group
from pipeline.measure.accuracy import mean_scored

Floats = NDArray[np.float64]


@dataclass(frozen=True, kw_only=True)
class Answers:
    """What one setting's completions came to, [_P, _N] each."""

    correct: Floats  # 1 or 0; NaN for what nothing could score
    iterations: Floats  # of all completion tokens
    tokens: Floats
    flops: Floats  # forward, prompt and exit checks included

    @property
    def points(self) -> Floats:
        """[_P, 3] iterations, FLOPs and accuracy of each prompt, this NaN where none is scored."""
        each = (self.iterations, self.flops, self.correct)
        return np.stack([mean_scored(values, axis=1) for values in each], axis=1)

    @property
    def accuracy(self) -> float:
        """Mean of all that are scored."""
        return float(mean_scored(self.correct))

    @property
    def mean_depth(self) -> float:
        """Iterations per completion token."""
        return float(self.iterations.sum() / self.tokens.sum())


def answers_of(groups: Sequence[Group], *, reward: str) -> Answers:
    """The groups' samples, judged by one reward: right from 1.0 on.

    Raises ValueError for rollouts without depths, which a dense model makes.
    """
    runs = [[s.rollout for s in g.samples] for g in groups]
    if any(r.depths is None for row in runs for r in row):
        raise ValueError("rollouts without depths: depth is of recurrent models")
    return Answers(
        correct=np.array([[_right(s.components[reward]) for s in g.samples] for g in groups]),
        iterations=np.array([[sum(r.depths or ()) for r in row] for row in runs], dtype=float),
        tokens=np.array([[len(r.tokens) for r in row] for row in runs], dtype=float),
        flops=np.array([[r.flops for r in row] for row in runs], dtype=float),
    )


def _right(value: float | None) -> float:
    return float("nan") if value is None else float(value >= 1.0)
