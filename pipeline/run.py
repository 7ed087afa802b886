"""Walk the plan: skip what is finished, run what is not, record, stop cleanly.

run folder/
  recipe.yaml state.json results.json     what was asked, how far it is, what came out
  stages/NAME/                            published artifacts
  inputs/NAME/                            the base model and the prompts
  work/NAME/  journal/NAME/  metrics/     what a resume goes on from; logs/ by process
"""

import fcntl
import json
import os
import shutil
import signal
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from types import FrameType
from typing import Any

from pipeline.artifacts import Artifact, fresh_folder, open_artifact, publish, write_atomic
from pipeline.cluster.driver import Cluster, ComponentFailed
from pipeline.depth import stage as depth
from pipeline.errors import RunFailed, Stopped
from pipeline.models import model_calls
from pipeline.plan.plan import make_plan
from pipeline.plan.stage_plan import Plan, PlanError, StagePlan
from pipeline.prompts.sources import load_prompts
from pipeline.recipe.dump import dump_recipe
from pipeline.recipe.routing import row_routes
from pipeline.recipe.schema import Recipe
from pipeline.records import read_prompts, write_prompts
from pipeline.stages import distill, evaluate, export, grpo, reject, reward_model, sft
from pipeline.stages.context import Console, Output, RunContext
from pipeline.stages.prompt_room import PromptRoom, prompt_room, sampled_entries
from pipeline.stages.support import MODEL_FOLDER, PROMPTS_FILE

STAGES: Mapping[str, Callable[[StagePlan, RunContext], Output]] = {
    "sft": sft.run,
    "grpo": grpo.run,
    "reject": reject.run,
    "reward_model": reward_model.run,
    "distill": distill.run,
    "depth": depth.run,
    "evaluate": evaluate.run,
    "export": export.run,
}

BASE = "base"
FINGERPRINT_FILE = "fingerprint"  # in a work folder: which plan of the stage it belongs to


class StageFailed(RunFailed):
    """A stage could not finish; the message names it, the component, and what to do."""


@dataclass
class StageState:
    """One line of the stage table."""

    name: str
    kind: str
    status: str = "waiting"
    seconds: float = 0.0
    artifact: str | None = None


@dataclass(frozen=True, kw_only=True)
class RunResult:
    """A run at its end."""

    run_dir: Path
    stages: list[StageState]
    results: list[dict[str, Any]] = field(default_factory=list)
    depth: Mapping[str, Any] | None = None  # of the last depth stage

    def document(self) -> dict[str, Any]:
        """What `stepwell run --json` prints."""
        return {
            "run_dir": str(self.run_dir),
            "stages": [vars(state) for state in self.stages],
            "results": self.results,
        } | ({} if self.depth is None else {"depth": self.depth})


def run(
    recipe: Recipe,
    *,
    run_dir: Path | None,
    from_stage: str | None,
    to_stage: str | None,
    console: Console,
) -> RunResult:
    """Run a recipe to its end, or to `to_stage`. Finished stages are skipped.

    Raises PlanError for a wrong recipe or stage name, StageFailed, or Stopped after Ctrl-C.
    """
    plan = make_plan(recipe)
    folder = (run_dir or Path("runs") / recipe.name).resolve()
    chosen = chosen_stages(plan, from_stage, to_stage)
    folder.mkdir(parents=True, exist_ok=True)
    with _locked(folder), _signals() as stopping:
        return Runner(plan, folder, console, stopping).run(chosen, from_stage)


def chosen_stages(plan: Plan, from_stage: str | None, to_stage: str | None) -> list[StagePlan]:
    """The stages from one to another, both included. Raises PlanError for an unknown name."""
    names = [stage.name for stage in plan.stages]
    for option, name in (("--from", from_stage), ("--to", to_stage)):
        if name is not None and name not in names:
            raise PlanError(f"{option} {name}: no such stage; the recipe has {', '.join(names)}")
    first = names.index(from_stage) if from_stage else 0
    last = names.index(to_stage) if to_stage else len(names) - 1
    if first > last:
        raise PlanError(f"--from {from_stage} comes after --to {to_stage}")
    return list(plan.stages[: last + 1])


class Runner:
    """One run in one folder."""

    def __init__(
        self, plan: Plan, folder: Path, console: Console, stopping: threading.Event
    ) -> None:
        self._plan = plan
        self._folder = folder
        self._console = console
        self._stopping = stopping
        self._artifacts: dict[str, Artifact] = {}
        self._room = PromptRoom()
        self._states = {s.name: StageState(s.name, s.kind) for s in plan.stages}
        self._cluster = Cluster(plan.recipe.hardware, device=plan.device, logs=folder / "logs")

    def run(self, stages: list[StagePlan], from_stage: str | None) -> RunResult:
        """Run these stages in order, those from `from_stage` on again."""
        write_atomic(self._folder / "recipe.yaml", dump_recipe(self._plan.recipe))
        if from_stage is not None:
            self._redo_from(from_stage)
        waiting = [stage for stage in stages if not self._finished(stage)]
        self._console.start(self._plan, self._folder)
        for name in self._artifacts:
            self._show(name, "finished before")
        try:
            if waiting:
                self._cluster.start()
                self._prepare_inputs(waiting)
                self._room = self._measured_room()
            for stage in waiting:
                self._run_stage(stage)
        finally:
            self._cluster.stop()
            self._save_state()
        results = self._results()
        self._console.finish(results)
        return RunResult(
            run_dir=self._folder,
            stages=list(self._states.values()),
            results=results,
            depth=self._depth(),
        )

    def _redo_from(self, name: str) -> None:
        """Move the stage and all later ones aside, so that they run again."""
        names = [stage.name for stage in self._plan.stages]
        first = names.index(name)
        missing = [s.name for s in self._plan.stages[:first] if not self._is_published(s)]
        if missing:
            raise PlanError(
                f"--from {name}: {', '.join(missing)} must be finished in {self._folder} first; "
                "run without --from"
            )
        for later in names[first:]:
            for place in ("stages", "work", "journal"):
                _set_aside(self._folder / place / later)

    def _is_published(self, stage: StagePlan) -> bool:
        path = self._folder / "stages" / stage.name
        if not path.exists():
            return False
        return open_artifact(path, verify=False).manifest.fingerprint == stage.fingerprint

    def _finished(self, stage: StagePlan) -> bool:
        """Whether the stage's artifact is there and whole; another recipe's is set aside."""
        path = self._folder / "stages" / stage.name
        if not path.exists():
            return False
        if not self._is_published(stage):
            _set_aside(path)
            return False
        artifact = open_artifact(path)
        self._artifacts[stage.name] = artifact
        state = self._states[stage.name]
        state.status, state.seconds = "done", artifact.manifest.seconds
        state.artifact = str(path)
        return True

    def _prepare_inputs(self, stages: list[StagePlan]) -> None:
        """The base model and every prompts entry that a waiting stage needs."""
        needed = {i.name for stage in stages for i in stage.inputs}
        # a reward model reads its harvest's questions, so sampled prompts are always at hand
        every = [item for stage in self._plan.stages for item in stage.inputs]
        needed |= {item.name for item in every if item.role == "prompts"}
        needed.add(BASE)  # prompts are measured with its tokenizer
        for name in sorted(needed - self._states.keys()):
            self._artifacts[name] = self._input(name)

    def _measured_room(self) -> PromptRoom:
        """What the prompts need of the engines; PlanError where some do not fit."""
        prompts = {
            name: read_prompts(self._artifacts[name].path / PROMPTS_FILE)
            for name in sampled_entries(self._plan).keys() & self._artifacts.keys()
        }
        model = self._artifacts[BASE].path / MODEL_FOLDER
        return prompt_room(self._plan, model, prompts, log=self._console.log)

    def _input(self, name: str) -> Artifact:
        path = self._folder / "inputs" / name
        fingerprint = self._plan.fingerprints[name]
        if path.exists():
            found = open_artifact(path)
            if found.manifest.fingerprint == fingerprint:
                return found
            _set_aside(path)
        draft = fresh_folder(self._folder / "work" / f".input-{name}")
        if name == BASE:
            self._console.log("loading the base model")
            self._cluster.call(
                model_calls.materialize,
                self._plan.recipe.model,
                draft / MODEL_FOLDER,
                seed=self._plan.recipe.seed,
            )
            return publish(draft, path, kind="checkpoint", stage=name, fingerprint=fingerprint)
        source = self._plan.recipe.prompts[name]
        routes = row_routes(self._plan.recipe, name)
        seed = self._plan.recipe.seed if source.seed is None else source.seed
        prompts = load_prompts(name, source, seed=seed, routes=routes)
        write_prompts(prompts, draft / PROMPTS_FILE)
        return publish(draft, path, kind="prompts", stage=name, fingerprint=fingerprint)

    def _run_stage(self, stage: StagePlan) -> None:
        if self._stopping.is_set():
            raise Stopped(f"stopped before {stage.name}; the same command goes on")
        self._show(stage.name, "running")
        began = time.monotonic()
        work = self._work_folder(stage)
        before = float((work / "seconds").read_text()) if (work / "seconds").exists() else 0.0
        out = fresh_folder(self._folder / "work" / f".{stage.name}.out")
        context = RunContext(
            plan=self._plan,
            run_dir=self._folder,
            work=work,
            out=out,
            artifacts=self._artifacts,
            cluster=self._cluster,
            console=self._console,
            stopping=self._stopping.is_set,
            room=self._room,
        )
        try:
            output = STAGES[stage.kind](stage, context)
        except Stopped:
            write_atomic(work / "seconds", str(before + time.monotonic() - began))
            self._show(stage.name, "stopped", seconds=before + time.monotonic() - began)
            raise
        except Exception as error:  # any stage failure becomes one sentence with its place
            self._show(stage.name, "failed", seconds=before + time.monotonic() - began)
            raise StageFailed(self._explain(stage, work, error)) from error
        seconds = before + time.monotonic() - began
        self._publish(stage, output, out, seconds)
        shutil.rmtree(work / "checkpoints", ignore_errors=True)
        self._show(stage.name, "done", seconds=seconds)

    def _publish(self, stage: StagePlan, output: Output, out: Path, seconds: float) -> None:
        artifact = publish(
            out,
            self._folder / "stages" / stage.name,
            kind=output.kind,
            stage=stage.name,
            fingerprint=stage.fingerprint,
            inputs={f"{i.role}:{i.name}": self._plan.fingerprints[i.name] for i in stage.inputs},
            info=output.info,
            seconds=seconds,
        )
        self._artifacts[stage.name] = artifact
        self._states[stage.name].artifact = str(artifact.path)

    def _work_folder(self, stage: StagePlan) -> Path:
        """The stage's work folder; one that another recipe began is set aside, journal too."""
        work = self._folder / "work" / stage.name
        mark = work / FINGERPRINT_FILE
        if work.exists() and (not mark.exists() or mark.read_text() != stage.fingerprint):
            _set_aside(work)
            _set_aside(self._folder / "journal" / stage.name)
        work.mkdir(parents=True, exist_ok=True)
        write_atomic(mark, stage.fingerprint)
        return work

    def _explain(self, stage: StagePlan, work: Path, error: Exception) -> str:
        what = (
            str(error) if isinstance(error, ComponentFailed) else f"{type(error).__name__}: {error}"
        )
        steps = sorted((self._folder / "journal" / stage.name).glob("step-*.parquet"))
        last = f"\nlast good step: {int(steps[-1].stem[5:])}" if steps else ""
        return (
            f"stage {stage.name} ({stage.kind}) failed: {what}{last}\n"
            f"logs: {self._folder / 'logs'}\n"
            "what is finished is kept: mend the cause and run the same command again"
        )

    def _show(self, name: str, status: str, *, seconds: float | None = None) -> None:
        state = self._states.get(name)
        if state is None:
            return
        state.status = "done" if status == "finished before" else status
        state.seconds = state.seconds if seconds is None else seconds
        self._console.stage(name, status, seconds=state.seconds)
        self._save_state()

    def _save_state(self) -> None:
        rows = [vars(state) for state in self._states.values()]
        write_atomic(self._folder / "state.json", json.dumps(rows, indent=1))

    def _results(self) -> list[dict[str, Any]]:
        results = [
            dict(result) | {"minutes": self._minutes(result["model"])}
            for stage in self._plan.stages
            if stage.kind == "evaluate" and stage.name in self._artifacts
            for result in self._artifacts[stage.name].manifest.info["results"]
        ]
        write_atomic(self._folder / "results.json", json.dumps(results, indent=1))
        return results

    def _depth(self) -> Mapping[str, Any] | None:
        """What the last finished depth stage found."""
        found = [
            self._artifacts[stage.name].manifest.info["depth"]
            for stage in self._plan.stages
            if stage.kind == "depth" and stage.name in self._artifacts
        ]
        return found[-1] if found else None

    def _minutes(self, model: str) -> float:
        state = self._states.get(model)
        return 0.0 if state is None else round(state.seconds / 60, 2)


def _set_aside(path: Path) -> None:
    """Rename to NAME.old-1, -2, ...: nothing that a run made is deleted by another recipe."""
    if not path.exists():
        return
    number = 1
    while (target := path.with_name(f"{path.name}.old-{number}")).exists():
        number += 1
    os.rename(path, target)


@contextmanager
def _locked(folder: Path) -> Iterator[None]:
    """One run in a folder at a time. Raises PlanError when another process runs in it."""
    with (folder / ".lock").open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise PlanError(f"{folder}: another stepwell runs here; choose --run-dir") from error
        yield


@contextmanager
def _signals() -> Iterator[threading.Event]:
    """The first Ctrl-C (or SIGTERM) asks for a clean stop, the second one ends at once."""
    stopping = threading.Event()

    def ask(_number: int, _frame: FrameType | None) -> None:
        if stopping.is_set():
            raise Stopped("stopped at once; the run goes on from its last checkpoint")
        stopping.set()

    previous: Mapping[int, Any] = {
        number: signal.signal(number, ask) for number in (signal.SIGINT, signal.SIGTERM)
    }
    try:
        yield stopping
    finally:
        for number, handler in previous.items():
            signal.signal(number, handler)
