"""How far a run is: the table of its stages, saved and shown, and what came out."""

import json
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from pipeline.artifacts import Artifact, write_atomic
from pipeline.measure.ledger import phase_totals
from pipeline.plan.stage_plan import Plan
from pipeline.plan.time_left import in_words, planned_seconds, seconds_left
from pipeline.stages.context import Console
from pipeline.stages.drop_log import log_drops, run_drops
from pipeline.stages.run_folder import RunFolder
from pipeline.train.job import METRICS_FILE, PARTS_FILE, whole_rows

Status = Literal["waiting", "running", "done", "failed", "stopped"]


@dataclass
class StageState:
    """One line of the stage table."""

    name: str
    kind: str
    status: Status = "waiting"
    seconds: float = 0.0
    artifact: str | None = None  # its path; in state.json relative to the run folder
    error: str | None = None  # why it failed or stopped
    phase_seconds: dict[str, float] = field(default_factory=dict)  # of a stage with metrics


@dataclass(frozen=True, kw_only=True)
class RunResult:
    """A run at its end."""

    run_dir: Path
    stages: list[StageState]
    results: list[dict[str, Any]] = field(default_factory=list)
    depth: Mapping[str, Any] | None = None  # of the last depth stage
    dropped: list[dict[str, Any]] = field(default_factory=list)  # drops with their `place`

    def document(self) -> dict[str, Any]:
        """What `stepwell run --json` prints."""
        return {
            "run_dir": str(self.run_dir),
            "stages": [vars(state) for state in self.stages],
            "results": self.results,
            "dropped": self.dropped,
        } | ({} if self.depth is None else {"depth": self.depth})


class Progress:
    """The stage table of one run."""

    def __init__(
        self,
        plan: Plan,
        folder: RunFolder,
        console: Console,
        *,
        finished: Mapping[str, Artifact],
        asked: Collection[str],
    ) -> None:
        """Show the plan, and the stages that an earlier run finished. `asked`: those that this run
        goes through."""
        self._plan = plan
        self._folder = folder
        self._console = console
        self._asked = frozenset(asked)
        self._planned = planned_seconds(plan)
        self._states = {stage.name: StageState(stage.name, stage.kind) for stage in plan.stages}
        console.start(plan, folder.path)
        for name, artifact in finished.items():
            self._publish(name, artifact)
            console.stage(name, "finished before", seconds=artifact.manifest.seconds)
        self.save()

    def show(
        self, name: str, status: Status, *, seconds: float = 0.0, error: str | None = None
    ) -> None:
        """A stage has come to a new state."""
        state = self._states[name]
        state.status, state.seconds, state.error = status, seconds, error
        state.phase_seconds = self._phase_seconds(name, seconds)
        self.save()
        note = self._time_left() if status == "running" else ""
        self._console.stage(name, status, seconds=seconds, note=note)

    def _time_left(self) -> str:
        """Of all that this run goes through; nothing where it cannot be told."""
        done = {n: s.seconds for n, s in self._states.items() if s.status == "done"}
        left = seconds_left(self._planned, done, waiting=set(self._asked - done.keys()))
        return "" if left is None else f"about {in_words(left)} left of the run"

    def publish(self, name: str, artifact: Artifact) -> None:
        """A stage is done; what it left out is logged."""
        self._publish(name, artifact)
        log_drops(f"stages.{name}", artifact.manifest.info, self._console)
        self._console.stage(name, "done", seconds=artifact.manifest.seconds)
        self.save()

    def end(self, status: Status, *, error: str) -> None:
        """The run ended early: where no stage says so, one that ran or the next one did."""
        states = [state for state in self._states.values() if state.status != "done"]
        if states and not any(state.status in ("failed", "stopped") for state in states):
            running = [state for state in states if state.status == "running"]
            self.show([*running, *states][0].name, status, error=error)
        self.save()

    def save(self) -> None:
        """Write the table for whoever looks at the run folder. Artifacts are named relative to it,
        so that it can be moved."""
        rows = [vars(state) | self._place(state) for state in self._states.values()]
        write_atomic(self._folder.path / "state.json", json.dumps(rows, indent=1))

    def _place(self, state: StageState) -> dict[str, str | None]:
        path = None if state.artifact is None else Path(state.artifact)
        return {"artifact": path and str(path.relative_to(self._folder.path))}

    def result(self, artifacts: Mapping[str, Artifact]) -> RunResult:
        """What came out, written to the run folder and shown."""
        of_kind = {
            kind: [
                artifacts[stage.name].manifest.info
                for stage in self._plan.stages
                if stage.kind == kind and stage.name in artifacts
            ]
            for kind in ("evaluate", "depth")
        }
        results = [
            {**row, "minutes": self._minutes(row["model"])}
            for info in of_kind["evaluate"]
            for row in info["results"]
        ]
        write_atomic(self._folder.path / "results.json", json.dumps(results, indent=1))
        self._console.finish(results)
        return RunResult(
            run_dir=self._folder.path,
            stages=list(self._states.values()),
            results=results,
            depth=of_kind["depth"][-1]["depth"] if of_kind["depth"] else None,
            dropped=run_drops(self._folder.path),
        )

    def _publish(self, name: str, artifact: Artifact) -> None:
        state = self._states[name]
        state.status, state.seconds, state.error = "done", artifact.manifest.seconds, None
        state.artifact = str(artifact.path)
        state.phase_seconds = self._phase_seconds(name, state.seconds)

    def _phase_seconds(self, name: str, seconds: float) -> dict[str, float]:
        """Of its metrics, and of those of parts that train in folders of their own. A damaged row,
        which a resume tells of, stops no launch."""
        work = self._folder.work(name)
        files = [work / METRICS_FILE, work / PARTS_FILE, *sorted(work.glob(f"*/{METRICS_FILE}"))]
        rows = [row for file in files for row in whole_rows(file)]
        return phase_totals(rows, seconds=seconds)

    def _minutes(self, model: str) -> float:
        state = self._states.get(model)
        return 0.0 if state is None else round(state.seconds / 60, 2)
