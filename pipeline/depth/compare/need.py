"""Did depth go where it was needed? The positions of our tasks whose needed steps are known. Pure.

- `lookups` writes queries with their results: `!a3d` takes as many look-ups as its digit says.
- `shuffles` and `turns` write moves between a start and an end: `0xyz1` takes one step more at
  every move, of which each depends on the one before.

What is marked `.`, or written in capitals, takes as many and nothing depends on it.
"""

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

QUERY = re.compile(r"([!.])[a-z](\d+)([a-z])")
GROUP = re.compile(r"\d([xyzlr]+|[XYZLR]+)(?=\d)")
ASKED = "!"


@dataclass(frozen=True, kw_only=True)
class Spent:
    """A position of a completion: the depth that it ran at, and what it needed."""

    depth: int
    steps: int  # sequential ones that lead to what the position has to know
    asked: bool  # the answer depends on it

    @property
    def needed_steps(self) -> int:
        """Steps that the answer depends on: one at least, as every token runs one iteration."""
        return self.steps if self.asked else 1


def _spent_on_queries(text: str, before: Callable[[int], int]) -> list[Spent]:
    return [
        Spent(
            depth=before(match.start(3)),
            steps=int(match.group(2)),
            asked=match.group(1) == ASKED,
        )
        for match in QUERY.finditer(text)
    ]


def _spent_on_moves(text: str, before: Callable[[int], int]) -> list[Spent]:
    return [
        Spent(
            depth=before(match.start(1) + move),
            steps=move,
            asked=match.group(1).islower(),
        )
        for match in GROUP.finditer(text)
        for move in range(1, len(match.group(1)) + 1)
    ]


_READERS: Mapping[str, Callable[[str, Callable[[int], int]], list[Spent]]] = {
    "lookups": _spent_on_queries,
    "shuffles": _spent_on_moves,
    "turns": _spent_on_moves,
}

TASKS_WITH_NEED = frozenset(_READERS)


def spent_where_known(task: str, pieces: Sequence[str], depths: Sequence[int]) -> list[Spent]:
    """The positions of a completion whose need is known.

    Args:
        task: one of TASKS_WITH_NEED.
        pieces: [_T] text of each token.
        depths: [_T] of the positions that predicted them.
    """
    places = [index for index, piece in enumerate(pieces) for _ in piece]
    return _READERS[task]("".join(pieces), lambda character: depths[places[character]])


def iterations_by_steps(
    steps: ArrayLike, correct: ArrayLike, *, share: float = 0.95
) -> dict[int, int]:
    """How many iterations this model needs for how many steps, never falling.

    The least fixed depth at which problems of so many steps come to `share` of what they come to
    at their best.

    Args:
        steps: [_P] of each problem.
        correct: [_P, _R] accuracy at depths 1 to _R.
    """
    wanted, cells = np.asarray(steps), np.asarray(correct, dtype=float)
    found: dict[int, int] = {}
    least = 1
    for number in sorted(set(wanted.tolist())):
        curve = cells[wanted == number].mean(axis=0)
        least = max(least, 1 + int(np.argmax(curve >= share * curve.max())))
        found[number] = least
    return found
