"""The two halves of the prompts: settings are placed on one and reported on the other. Pure."""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from pipeline.depth.answers import Answers
from pipeline.depth.bench import Measurement
from pipeline.depth.compare.methods import Requests
from pipeline.recurrent.request import DepthRequest

Rows = range


def halves_of(number: int) -> tuple[Rows, Rows]:
    """Prompts of even and of odd number.

    >>> [list(half) for half in halves_of(5)]
    [[0, 2, 4], [1, 3]]
    """
    return range(0, number, 2), range(1, number, 2)


def labels_of(number: int) -> list[int]:
    """[_P] the half of every prompt."""
    return [row % 2 for row in range(number)]


def by_name(
    requests: Requests, names: Sequence[str], samples: int
) -> dict[str, Sequence[DepthRequest]]:
    """A request for every sample of every prompt."""
    if isinstance(requests, DepthRequest):
        return {name: [requests] * samples for name in names}
    return {name: requests[name] for name in names}


def in_order(measurement: Measurement) -> Measurement:
    """A measurement of the even prompts and then the odd ones, in the order of all prompts."""
    order = np.argsort(np.concatenate(halves_of(len(measurement.groups))))
    answers = measurement.answers
    return replace(
        measurement,
        groups=[measurement.groups[row] for row in order],
        answers=Answers(
            correct=answers.correct[order],
            iterations=answers.iterations[order],
            tokens=answers.tokens[order],
            flops=answers.flops[order],
        ),
    )
