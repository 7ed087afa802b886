"""What a run folder says of its run at this moment, read from outside: the run is asked nothing.

A run writes `state.json`, metric rows, journaled steps and `logs/run.log` as it goes; whoever has
the folder may look, from another terminal or over a shared disk.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pipeline.watch.rollout_log import show, stages_of
from pipeline.watch.run_reading import RunReadError, json_of, metrics_by_part

LOG_BYTES = 65536
"""As much of the log's end is read."""


@dataclass(frozen=True, kw_only=True)
class LiveStage:
    """A line of the stage table."""

    name: str
    kind: str
    status: str
    seconds: float
    step: float | None  # of the newest metric row, with the steps in all
    steps: float | None


@dataclass(frozen=True, kw_only=True)
class Moment:
    """A run as its folder has it."""

    stages: Sequence[LiveStage]
    current: str | None  # the stage that runs, else the last one with metrics
    row: Mapping[str, Any]  # its newest metrics
    series: Sequence[float]  # its rewards by step, else its losses
    series_name: str
    log: Sequence[str]

    @property
    def is_over(self) -> bool:
        """Whether the run ended: all is done, or a stage failed or was stopped."""
        states = {stage.status for stage in self.stages}
        ended = bool(states & {"failed", "stopped"}) or "waiting" not in states
        return ended and "running" not in states


def moment_of(run_dir: Path) -> Moment:
    """What the folder says now. Raises RunReadError for a folder of no run."""
    states = json_of(run_dir / "state.json")
    if not states:
        where = "it has no state.json yet" if run_dir.is_dir() else "there is no such folder"
        raise RunReadError(f"{run_dir} is no run folder: {where}; name one such as runs/quickstart")
    rows = {state["name"]: _rows(run_dir, state["name"]) for state in states}
    running = [s["name"] for s in states if s["status"] == "running"]
    measured = [name for name, of_stage in rows.items() if of_stage]
    current = next(iter([*running, *reversed(measured)]), None)
    shown = rows.get(current or "", [])
    key = "reward" if any("reward" in row for row in shown) else "loss"
    return Moment(
        stages=[_stage(state, rows[state["name"]]) for state in states],
        current=current,
        row=shown[-1] if shown else {},
        series=[row[key] for row in shown if row.get(key) is not None],
        series_name=key,
        log=_log(run_dir / "logs" / "run.log"),
    )


def latest_rollouts(run_dir: Path, *, limit: int) -> list[dict[str, Any]]:
    """The last step's first rollouts of the stage that wrote last; none before any is there."""
    return show(run_dir, limit=limit) if stages_of(run_dir) else []


def _stage(state: Mapping[str, Any], rows: Sequence[Mapping[str, Any]]) -> LiveStage:
    last = rows[-1] if rows else {}
    return LiveStage(
        name=state["name"],
        kind=state["kind"],
        status=state["status"],
        seconds=state["seconds"],
        step=last.get("step"),
        steps=last.get("steps"),
    )


def _rows(run_dir: Path, stage: str) -> list[dict[str, Any]]:
    """The metric rows of the part that a stage is at, or was at last."""
    parts = metrics_by_part(run_dir, stage)
    return list(parts.values())[-1] if parts else []


def _log(file: Path) -> list[str]:
    if not file.is_file():
        return []
    with file.open("rb") as stream:
        stream.seek(max(0, file.stat().st_size - LOG_BYTES))
        return stream.read().decode(errors="replace").splitlines()
