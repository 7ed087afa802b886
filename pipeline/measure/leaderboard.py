"""Models ranked by what an answer is right and takes, together. Pure.

A model is a point (FLOPs per answer, accuracy). Joules stand beside, and those of different sources
are never compared: a measurement and an estimate differ by more than models do.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from pipeline.measure.pareto import hypervolume, pareto_front

BEYOND = 1.05
"""The hypervolume's worst cost over the dearest model's, so that this one counts a little."""


@dataclass(frozen=True, kw_only=True)
class Entry:
    """A model of a run on one set of prompts."""

    run: str
    stage: str  # that evaluated it
    model: str
    accuracy: float
    ci_low: float
    ci_high: float
    flops_per_answer: float | None = None  # None: not known
    joules_per_answer: float | None = None
    energy_source: str | None = None

    def per_correct(self, each: float | None) -> float | None:
        """What a right answer takes where an answer takes `each`; None where nothing is right."""
        return None if each is None or not self.accuracy else each / self.accuracy


@dataclass(frozen=True, kw_only=True)
class Ranking:
    """Entries on one set of prompts, the most accurate first, the cheaper of equal ones first."""

    entries: Sequence[Entry]
    on_front: Sequence[bool]  # [_N] no other entry is as right for less, or better for as much
    on_joules_front: Sequence[bool | None]  # [_N] the same among its source's; None: no joules
    hypervolume: Mapping[str, float]  # of each run's entries; empty where no FLOPs are known
    best_hypervolume: float | None  # of all entries


def ranked(entries: Sequence[Entry]) -> Ranking:
    """Rank entries of one set of prompts.

    The hypervolume is the share of the box from (1.05 times the dearest entry's FLOPs, accuracy 0)
    to (0, 1) that entries dominate (`pareto.hypervolume`).
    """
    order = sorted(entries, key=lambda e: (-e.accuracy, e.flops_per_answer or 0.0, e.run, e.model))
    points = [_point(entry.flops_per_answer, entry) for entry in order]
    known = [point for point in points if point is not None]
    worst = BEYOND * max((cost for cost, _ in known), default=0.0)
    volumes: dict[str, float] = {}
    for run in dict.fromkeys(entry.run for entry in order) if worst else ():
        own = [p for p, entry in zip(points, order, strict=True) if p and entry.run == run]
        if own:
            volumes[run] = hypervolume(own, (worst, 0.0))
    return Ranking(
        entries=order,
        on_front=[point in _front(known) for point in points],
        on_joules_front=[_on_joules_front(entry, order) for entry in order],
        hypervolume=volumes,
        best_hypervolume=hypervolume(known, (worst, 0.0)) if worst else None,
    )


def _point(cost: float | None, entry: Entry) -> tuple[float, float] | None:
    return None if cost is None else (cost, entry.accuracy)


def _front(points: Sequence[tuple[float, float]]) -> list[tuple[float, float]]:
    return [(cost, accuracy) for cost, accuracy in pareto_front(points).tolist()] if points else []


def _on_joules_front(entry: Entry, entries: Sequence[Entry]) -> bool | None:
    point = _point(entry.joules_per_answer, entry)
    if point is None:
        return None
    rivals = [
        rival
        for other in entries
        if other.energy_source == entry.energy_source
        and (rival := _point(other.joules_per_answer, other)) is not None
    ]
    return point in _front(rivals)
