"""The two halves of the prompts: settings are placed on one and reported on the other. Pure."""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from pipeline.depth.answers import Answers
from pipeline.depth.bench import Measurement

Rows = Sequence[int]


def halves_of(number: int) -> tuple[Rows, Rows]:
    """Prompts of even and of odd number.

    >>> [list(half) for half in halves_of(5)]
    [[0, 2, 4], [1, 3]]
    """
    return range(0, number, 2), range(1, number, 2)


def labels_of(number: int) -> list[int]:
    """[_P] the half of every prompt."""
    return [row % 2 for row in range(number)]


def merged(parts: tuple[Measurement, Measurement]) -> Measurement:
    """Measurements of both halves as one of all prompts, in their order."""
    order = np.argsort(np.concatenate(halves_of(sum(len(part.groups) for part in parts))))
    even, odd = (part.answers for part in parts)
    groups = [group for part in parts for group in part.groups]
    first, second = (part.energy for part in parts)
    same_source = first.source == second.source

    def together(ours: np.ndarray, theirs: np.ndarray) -> np.ndarray:
        return np.concatenate([ours, theirs])[order]

    return Measurement(
        groups=[groups[row] for row in order],
        answers=Answers(
            correct=together(even.correct, odd.correct),
            iterations=together(even.iterations, odd.iterations),
            tokens=together(even.tokens, odd.tokens),
            flops=together(even.flops, odd.flops),
        ),
        energy=replace(
            first,
            joules=first.joules + second.joules,
            seconds=first.seconds + second.seconds,
            source=first.source if same_source else "analytic",
        ),
    )
