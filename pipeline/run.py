"""A plan from its first stage to its last: skip what is finished, run what is not, stop cleanly."""

import contextlib
import errno
import os
import shutil
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from threading import Event
from typing import Any

from pipeline.artifacts import Artifact, fresh_folder, publish, write_atomic
from pipeline.cluster.clean_up import is_left_behind
from pipeline.cluster.driver import Cluster
from pipeline.cluster.ray_session import ComponentDied
from pipeline.depth import stage as depth
from pipeline.errors import Diverged, RunFailed, StepwellError, Stopped
from pipeline.plan.engine_choice import first_engine
from pipeline.plan.plan import stages_until
from pipeline.plan.stage_plan import Plan, StagePlan
from pipeline.plan.threads import other_cores
from pipeline.recipe.dump import dump_recipe
from pipeline.stages import distill, evaluate, export, grpo, reject, reward_model, sft
from pipeline.stages.context import Console, Output, RunContext, warning
from pipeline.stages.drop_log import write_room_drops
from pipeline.stages.journal_check import check_finished
from pipeline.stages.launch_record import record_launch
from pipeline.stages.progress import Progress, RunResult
from pipeline.stages.recipe_changes import recipe_changes
from pipeline.stages.run_folder import CORES_FILE, RunFolder
from pipeline.stages.run_inputs import measured_room, run_inputs
from pipeline.stages.run_log import RunLog
from pipeline.stages.stop_signal import stop_if, stop_in, stop_signal
from pipeline.stages.support import prepare_engines
from pipeline.stages.surroundings import Surroundings, settled
from pipeline.stages.tracked_console import TrackedConsole
from pipeline.stages.trackers import require_trackers
from pipeline.train.job import CHECKPOINTS

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

SECONDS_FILE = "seconds"  # in a work folder: how long the stage ran before it was stopped


class StageFailed(RunFailed):
    """A stage could not finish; the message names it, the component, and what to do."""


def run(
    plan: Plan,
    *,
    run_dir: Path | None,
    from_stage: str | None,
    to_stage: str | None,
    console: Console,
    force: bool = False,
) -> RunResult:
    """Run a plan to its end, or to `to_stage`. Finished stages are skipped. `force`: go on with
    stages that were begun with other versions of packages.

    Raises PlanError for a wrong stage name, WrongInput for a tracker that is not installed,
    RunFolderError for a folder where nothing can run, RunFailed when the cluster, the base model or
    a stage fails, or Stopped after Ctrl-C.
    """
    stages = stages_until(plan, from_stage, to_stage)
    require_trackers(plan.recipe)
    folder = RunFolder((run_dir or Path("runs") / plan.recipe.name).resolve())
    with (
        folder.lock(),
        folder.reserve() as free_reserve,
        RunLog.opened(folder.logs / "run.log", console) as log,
        stop_signal(tell=log.log) as stopping,
        TrackedConsole.opened(log, plan.recipe, folder.path) as tracked,
    ):
        _keep_recipe(plan, folder, log)
        record_launch(folder.path, plan)
        write_atomic(folder.path / CORES_FILE, f"{plan.cores}\n")
        if (line := other_cores(plan)) is not None:
            log.log(line)
        if from_stage is not None:
            folder.redo(plan, from_stage)
        artifacts = {
            s.name: artifact for s in stages if (artifact := folder.finished(s, tell=log.log))
        }
        for name in artifacts:
            check_finished(folder.journal(name), tell=warning(log, name))
        asked = [stage.name for stage in stages]
        progress = Progress(plan, folder, tracked, finished=artifacts, asked=asked)
        waiting = [stage for stage in stages if stage.name not in artifacts]
        try:
            artifacts |= _run_stages(
                waiting, artifacts, plan, folder, progress, tracked, stopping, force=force
            )
        except BaseException as caught:
            error = stop_in(caught) or caught
            reason = _named(error)
            free_reserve()
            with contextlib.suppress(OSError):  # of a disk that fails, which is why the run ends
                progress.end("stopped" if isinstance(error, Stopped) else "failed", error=reason)
            with contextlib.suppress(OSError):
                log.note(reason)
            raise error from error.__cause__
        return progress.result(artifacts)


def _run_stages(
    stages: Sequence[StagePlan],
    finished: Mapping[str, Artifact],
    plan: Plan,
    folder: RunFolder,
    progress: Progress,
    console: Console,
    stopping: Event,
    *,
    force: bool,
) -> dict[str, Artifact]:
    """What the stages read and make, by name. Where a process died or hung, all are started again
    and the work goes on from what is on disk, as often as the recipe has it; not where Ray itself
    is dead, which this process cannot leave."""
    artifacts = dict(finished)
    restarts = plan.recipe.hardware.restarts
    for number in range(restarts + 1):
        waiting = [stage for stage in stages if stage.name not in artifacts]
        try:
            if waiting:
                _run_on_cluster(
                    waiting, artifacts, plan, folder, progress, console, stopping, force=force
                )
            return artifacts
        except (ComponentDied, StageFailed) as error:
            died = error.__cause__ if isinstance(error, StageFailed) else error
            if number == restarts or not isinstance(died, ComponentDied) or is_left_behind():
                raise
            line = str(died).splitlines()[0]
            console.log(f"warning: {line}; starting again ({number + 1} of {restarts} times)")
    raise AssertionError("a run ends or fails")


def _run_on_cluster(
    stages: Sequence[StagePlan],
    artifacts: dict[str, Artifact],
    plan: Plan,
    folder: RunFolder,
    progress: Progress,
    console: Console,
    stopping: Event,
    *,
    force: bool,
) -> None:
    """Add what the stages read and make to `artifacts`."""
    with Cluster(
        plan.recipe.hardware.model_copy(
            update={"engine": first_engine(plan.recipe, device=plan.device)}
        ),
        device=plan.device,
        logs=folder.logs,
        scorer=plan.recipe.has_reward_model,
        stopping=stopping.is_set,
    ) as cluster:
        for name, artifact in run_inputs(plan, stages, folder, cluster=cluster, console=console):
            artifacts[name] = artifact
            stop_if(stopping.is_set, before=stages[0].name)
        room = measured_room(plan, artifacts, log=console.log)
        write_room_drops(folder.path, room.drops)
        here = Surroundings.here(device=plan.device)
        for stage in stages:
            stop_if(stopping.is_set, before=stage.name)
            work = folder.begin(stage, tell=console.log)
            around = settled(work, stage.name, here, force=force, tell=console.log)
            context = RunContext(
                plan=plan,
                run_dir=folder.path,
                work=work,
                out=fresh_folder(folder.work(f".{stage.name}.out")),
                artifacts=artifacts,
                cluster=cluster,
                console=console,
                stopping=stopping.is_set,
                room=room,
            )
            if stage is stages[0]:
                prepare_engines(context, stages)
            artifacts[stage.name] = _run_stage(stage, context, folder, progress, around)


def _run_stage(
    stage: StagePlan,
    context: RunContext,
    folder: RunFolder,
    progress: Progress,
    surroundings: Mapping[str, Any],
) -> Artifact:
    """Run one stage and publish what it fills its context's `out` folder with."""
    clock = context.work / SECONDS_FILE
    began = time.monotonic() - _seconds_before(clock)
    progress.show(stage.name, "running")
    try:
        output = _output(stage, context)
    except Exception as error:  # any stage failure becomes one sentence with its place
        if (stop := stop_in(error)) is not None:
            seconds = time.monotonic() - began
            with contextlib.suppress(OSError):
                write_atomic(clock, str(seconds))
            with contextlib.suppress(OSError):
                progress.show(stage.name, "stopped", seconds=seconds, error=str(stop))
            raise stop from None
        reason = _named(error)
        with contextlib.suppress(OSError):  # of a full disk: it is saved as the run ends
            progress.show(stage.name, "failed", seconds=time.monotonic() - began, error=reason)
        raise StageFailed(_failure(stage, folder, reason)) from error
    fingerprints = context.plan.fingerprints
    artifact = publish(
        context.out,
        folder.stage(stage.name),
        kind=output.kind,
        stage=stage.name,
        fingerprint=stage.fingerprint,
        inputs={f"{i.role}:{i.name}": fingerprints[i.name] for i in stage.inputs},
        info=output.info,
        surroundings=surroundings,
        seconds=time.monotonic() - began,
    )
    shutil.rmtree(context.work / CHECKPOINTS, ignore_errors=True)
    progress.publish(stage.name, artifact)
    return artifact


def _keep_recipe(plan: Plan, folder: RunFolder, console: Console) -> None:
    """Write the recipe into the folder, and say what of it is another than before."""
    file, text = folder.path / "recipe.yaml", dump_recipe(plan.recipe)
    if file.is_file():
        before = file.read_text(encoding="utf-8", errors="replace")
        if (changes := recipe_changes(before, text)) is not None:
            console.log(f"the recipe differs from that of the last launch here: {changes}")
    write_atomic(file, text)


def _output(stage: StagePlan, context: RunContext) -> Output:
    """What the stage makes; where a training met a step without numbers, it begins again from its
    last checkpoint. The trainer bounds how often."""
    while True:
        try:
            return STAGES[stage.kind](stage, context)
        except Diverged as error:
            context.console.log(f"warning: {stage.name}: {error}")
            fresh_folder(context.out)


def _seconds_before(clock: Path) -> float:
    """How long the stage ran in earlier launches; 0 where nobody could say."""
    try:
        return float(clock.read_text())
    except (OSError, ValueError):
        return 0.0


def _named(error: BaseException) -> str:
    """What an error says; of one that nobody expected its kind, too."""
    return str(error) if isinstance(error, StepwellError) else f"{type(error).__name__}: {error}"


def _failure(stage: StagePlan, folder: RunFolder, reason: str) -> str:
    step = folder.last_step(stage.name)
    last = "" if step is None else f"\nlast good step: {step + 1}"
    full = os.strerror(errno.ENOSPC) in reason  # in libraries' own errors, too
    fix = "make room on its disk" if full else "mend the cause"
    return (
        f"stage {stage.name} ({stage.kind}) failed: {reason}{last}\n"
        f"logs: {folder.logs}\n"
        f"what is finished is kept: {fix} and run the same command again"
    )
