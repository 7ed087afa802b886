"""How long a run still takes: what the plan says of the stages that wait, at the pace of those that
are done."""

from collections.abc import Mapping

from pipeline.plan.estimate import estimate
from pipeline.plan.stage_plan import Plan

PRIOR_S = 60.0  # as if that much of the run had gone at the plan's pace; ours


def planned_seconds(plan: Plan) -> dict[str, float]:
    """Planned seconds of each stage whose model's size is known."""
    stages = estimate(plan.recipe, device=plan.device).stages
    return {stage.name: stage.hours * 3600 for stage in stages if stage.hours is not None}


def seconds_left(
    planned: Mapping[str, float], done: Mapping[str, float], *, waiting: set[str]
) -> float | None:
    """Seconds of the `waiting` stages; None where the plan knows nothing of one of them.

    `done`: measured seconds of stages. A minute at the plan's pace counts beside them, so that a
    first stage of seconds decides nothing.

    >>> seconds_left({"a": 600.0, "b": 100.0}, {"a": 1200.0}, waiting={"b"})
    190.9090909090909
    >>> seconds_left({"a": 60.0, "b": 100.0}, {}, waiting={"b"})
    100.0
    """
    if waiting - planned.keys():
        return None
    both = [(planned[name], seconds) for name, seconds in done.items() if name in planned]
    expected, taken = sum(p for p, _ in both), sum(s for _, s in both)
    pace = (taken + PRIOR_S) / (expected + PRIOR_S)
    return pace * sum(planned[name] for name in waiting)


def in_words(seconds: float) -> str:
    """
    >>> in_words(20), in_words(310), in_words(8000), in_words(400_000)
    ('less than a minute', '5 minutes', '2.2 hours', '111.1 hours')
    """
    if seconds < 60:
        return "less than a minute"
    return f"{seconds / 60:.0f} minutes" if seconds < 7200 else f"{seconds / 3600:,.1f} hours"
