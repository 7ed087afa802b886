"""Did depth go where it was needed? The positions of our tasks whose needed steps are known. Pure.

- `lookups` writes queries with their results: `!a3d` takes as many look-ups as its digit says.
- `shuffles`, `turns` and `picks` write moves between a start and an end: `0xyz1` takes one step
  more at every move, of which each depends on the one before.

What is marked `.`, or written in capitals, takes as many and nothing depends on it.
"""

import math
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from pipeline.depth.compare.depth_report import Need
from pipeline.measure.accuracy import mean_scored
from pipeline.measure.pareto import spearman, waste_and_shortfall

QUERY = re.compile(r"([!.])[a-z](\d+)([a-z])")
GROUP = re.compile(r"\d([xyzlr]+|[XYZLR]+)(?=\d)")
RELEVANT = "!"


@dataclass(frozen=True, kw_only=True)
class Position:
    """A position of a completion: the depth that it ran at, and what it needed."""

    depth: int
    steps: int  # sequential ones that lead to what the position has to know
    relevant: bool  # the answer depends on it

    @property
    def needed_steps(self) -> int:
        """Steps that the answer depends on: one at least, as every token runs one iteration."""
        return self.steps if self.relevant else 1


def _positions_of_queries(text: str, before: Callable[[int], int]) -> list[Position]:
    return [
        Position(
            depth=before(match.start(3)),
            steps=int(match.group(2)),
            relevant=match.group(1) == RELEVANT,
        )
        for match in QUERY.finditer(text)
    ]


def _positions_of_moves(text: str, before: Callable[[int], int]) -> list[Position]:
    return [
        Position(
            depth=before(match.start(1) + move),
            steps=move,
            relevant=match.group(1).islower(),
        )
        for match in GROUP.finditer(text)
        for move in range(1, len(match.group(1)) + 1)
    ]


_READERS: Mapping[str, Callable[[str, Callable[[int], int]], list[Position]]] = {
    "lookups": _positions_of_queries,
    "shuffles": _positions_of_moves,
    "turns": _positions_of_moves,
    "picks": _positions_of_moves,
}

TASKS_WITH_NEED = frozenset(_READERS)


def positions_with_need(task: str, pieces: Sequence[str], depths: Sequence[int]) -> list[Position]:
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
        correct: [_P, _R] accuracy at depths 1 to _R, NaN where none is scored.
    """
    steps_of, cells = np.asarray(steps), np.asarray(correct, dtype=float)
    iterations: dict[int, int] = {}
    least = 1
    for number in sorted(set(steps_of.tolist())):
        curve = mean_scored(cells[steps_of == number], axis=0)
        least = max(least, 1 + int(np.argmax(curve >= share * curve.max())))
        iterations[number] = least
    return iterations


def need(positions: Sequence[Position], iterations: Mapping[int, int]) -> Need:
    """How well depth followed need; unknown where too little was written to tell.

    `spearman_ceiling` is an oracle's, which runs at every position the least iterations that so
    many steps need. Numbers of steps that need as many are ties to it, so it is under 1, and a
    policy that tells these apart can be over it.

    Args:
        iterations: that the model needs for a number of steps; a number between takes the next.
    """
    relevant = [p for p in positions if p.relevant]
    idle = [p.depth for p in positions if not p.relevant]
    if len(relevant) < 2 or not iterations:
        return Need()
    depths, steps = [p.depth for p in positions], [p.needed_steps for p in positions]
    least = [_iterations_for(p.steps, iterations) for p in relevant]
    waste, shortfall = waste_and_shortfall(depths, [_iterations_for(s, iterations) for s in steps])
    of_relevant = [p.depth for p in relevant]
    return Need(
        spearman=_number(spearman(of_relevant, [p.steps for p in relevant])),
        spearman_ceiling=_number(spearman(least, [p.steps for p in relevant])),
        spearman_all=_number(spearman(depths, steps)),
        waste=waste,
        shortfall=shortfall,
        depth_asked=sum(of_relevant) / len(of_relevant),
        depth_idle=sum(idle) / len(idle) if idle else None,
        iterations_by_steps={str(steps): depth for steps, depth in iterations.items()},
    )


def _iterations_for(steps: int, iterations: Mapping[int, int]) -> int:
    enough = [depth for known, depth in iterations.items() if known >= steps]
    return min(enough, default=max(iterations.values()))


def _number(value: float) -> float | None:
    """None for what is not a number, which JSON has no word for."""
    return None if math.isnan(value) else value
