"""What several stages need: jobs, followed training, engine settings, service set-ups."""

import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from pipeline.cluster.setups import GrpoSetup, ServiceSetup
from pipeline.errors import Stopped
from pipeline.generate.client import RolloutClient
from pipeline.generate.engine import EngineSettings
from pipeline.generate.service import RewardUse
from pipeline.plan.engine_choice import channel_of, engine_for
from pipeline.plan.model_origin import first_source, runs_own_code
from pipeline.plan.stage_plan import StagePlan
from pipeline.recipe.routing import judges
from pipeline.recipe.stage_base import BASE, Input, Training
from pipeline.records import Message, Prompt, read_prompts
from pipeline.recurrent.effort import CALIBRATION
from pipeline.stages.context import Poll, RunContext, Serving, TrainingCall, stage_journal, warning
from pipeline.stages.health_watch import HealthWatch
from pipeline.stages.journal_check import Needs, start_of
from pipeline.stages.prompt_room import positions_of
from pipeline.stages.signal_watch import SignalWatch
from pipeline.train.checkpoints import latest_whole, updates_of
from pipeline.train.job import (
    CHECKPOINTS,
    METRICS_FILE,
    STOP_FILE,
    STOPPED,
    TrainJob,
    cut_metrics,
    read_metrics,
)

PROMPTS_FILE = "prompts.parquet"  # in a prompts artifact
MODEL_FOLDER = "model"  # in a checkpoint artifact

AsShown = Callable[[Mapping[str, Any]], Mapping[str, Any]]


def named(plan: StagePlan, role: str) -> list[Input]:
    """The stage's inputs of one role, in recipe order."""
    return [i for i in plan.inputs if i.role == role]


def model_of(ctx: RunContext, name: str) -> Path:
    """The Hugging Face folder of `base` or of a finished stage."""
    return ctx.artifacts[name].path / MODEL_FOLDER


def prompts_of(ctx: RunContext, name: str) -> list[Prompt]:
    """The prompts of a recipe entry, without those that are left out for their length."""
    left_out = ctx.room.left_out.get(name, frozenset())
    prompts = read_prompts(ctx.artifacts[name].path / PROMPTS_FILE)
    return [prompt for prompt in prompts if prompt.id not in left_out]


def train_job(
    ctx: RunContext,
    plan: StagePlan,
    *,
    model: Path,
    spec: Training | None = None,
    out: Path | None = None,
) -> TrainJob:
    """The stage's training job, or that of one of its parts with `spec` and `out` of its own.

    The console is told where new weights end a calibration.
    """
    recipe = ctx.plan.recipe
    config = json.loads((model / "config.json").read_text())
    if config.keys() & CALIBRATION:
        ctx.console.log(
            f"{plan.name}: {model} has a calibrated depth policy, which holds for its weights "
            f"alone: the trained model has no calibration and runs {config['num_iterations']} "
            "iterations unless asked otherwise; a depth stage calibrates it again"
        )
    chosen = plan.spec if spec is None else spec
    assert isinstance(chosen, Training)
    return TrainJob(
        spec=chosen,
        model=model,
        out=out or ctx.out / MODEL_FOLDER,
        work=ctx.work,
        seed=plan.seed,
        device=ctx.plan.device,
        ranks=recipe.hardware.ranks,
        sharding=recipe.hardware.sharding,
        threads=recipe.hardware.rank_threads,
        dtype=recipe.model.dtype,
        own_code=runs_own_code(recipe, plan.name),
    )


def train(ctx: RunContext, plan: StagePlan, training: TrainingCall[[]]) -> dict[str, Any]:
    """Run a training on all ranks, showing its metrics; raises Stopped on request."""
    tell = warning(ctx.console, plan.name)
    whole = latest_whole(ctx.work / CHECKPOINTS, checksums=True, tell=tell)
    begun = _resumed(ctx, plan, whole)
    follow = MetricsFollower(ctx, plan.name, as_shown=lambda row: row, begun=begun)
    return _followed(ctx, plan, follow, lambda poll: ctx.cluster.train(training, poll=poll))


def train_on_rollouts(
    ctx: RunContext,
    plan: StagePlan,
    training: TrainingCall[[RolloutClient]],
    *,
    setup: GrpoSetup,
    as_shown: AsShown = lambda row: row,
) -> dict[str, Any]:
    """The same of a training that asks the service, opened with `setup`, for rollouts.

    `as_shown`: a row as it is shown, with the step's number among the stage's.
    """
    journal = stage_journal(ctx.console, setup.journal, stage=plan.name)
    needs = Needs.of(setup.spec)
    whole = start_of(ctx.work / CHECKPOINTS, journal, needs)
    begun = _resumed(ctx, plan, whole, updates_per_step=needs.updates_per_step)
    follow = MetricsFollower(ctx, plan.name, as_shown=as_shown, begun=begun)
    return _followed(
        ctx, plan, follow, lambda poll: ctx.cluster.train_on_rollouts(training, poll=poll)
    )


def _resumed(
    ctx: RunContext, plan: StagePlan, checkpoint: Path | None, *, updates_per_step: int = 1
) -> int:
    """Say where a training goes on that an earlier launch began; how many updates it has made.

    Rows of metrics of later updates go: these are made again.
    """
    updates = 0 if checkpoint is None else updates_of(checkpoint)
    missing = cut_metrics(ctx.work / METRICS_FILE, step=updates)
    if checkpoint is None:
        return updates
    step = updates // updates_per_step
    ctx.console.log(f"{plan.name}: resumed at step {step + 1}, from {checkpoint.name}")
    if missing:
        warning(ctx.console, plan.name)(
            f"{ctx.work / METRICS_FILE} lacks {missing} of {updates} rows, damaged or lost: curves "
            "have a gap there; what is trained is the same"
        )
    return updates


def _followed(
    ctx: RunContext,
    plan: StagePlan,
    follow: "MetricsFollower",
    run: Callable[[Poll], dict[str, Any]],
) -> dict[str, Any]:
    (ctx.work / STOP_FILE).unlink(missing_ok=True)
    result = run(follow)
    follow.finish()
    if result["status"] == STOPPED:
        raise Stopped(f"{plan.name} stopped after step {result['steps']}; the same command goes on")
    return {key: value for key, value in result.items() if key != "status"}


class MetricsFollower:
    """Shows new rows of a job's metrics file, and passes on a wish to stop.

    Rows of the first `begun` updates, which an earlier launch showed, are only taken into account.
    """

    def __init__(self, ctx: RunContext, name: str, *, as_shown: AsShown, begun: int) -> None:
        self._ctx = ctx
        self._name = name
        self._as_shown = as_shown
        self._file = ctx.work / METRICS_FILE
        self._last_step = begun
        self._signal = SignalWatch()
        self._health = HealthWatch()
        self._seen_bytes = -1
        for row in read_metrics(self._file):
            self._signal.see(row)
            list(self._health.see(row))

    def __call__(self) -> None:
        """Called every fraction of a second while the training runs."""
        if self._ctx.stopping():
            (self._ctx.work / STOP_FILE).touch()
        for row in self._rows():
            if row["step"] > self._last_step:
                self._last_step = row["step"]
                self._ctx.console.metrics(self._name, self._as_shown(row))
                self._warn(self._signal.see(row))
                for sentence in self._health.see(row):
                    self._warn(sentence)

    def finish(self) -> None:
        """Show what is left, and what the stage lacked."""
        self()
        self._warn(self._signal.summary())

    def _warn(self, sentence: str | None) -> None:
        if sentence is not None:
            self._ctx.console.log(f"warning: {self._name}: {sentence}")

    def _rows(self) -> list[dict[str, Any]]:
        if not self._file.exists() or self._file.stat().st_size == self._seen_bytes:
            return []
        self._seen_bytes = self._file.stat().st_size
        return read_metrics(self._file)


def engine_settings(ctx: RunContext, model: Path) -> EngineSettings:
    """The same settings for every stage of a run, so that its engines can be reused."""
    hardware = ctx.plan.recipe.hardware
    config = json.loads((model / "config.json").read_text())
    longest = max(s.spec.longest_completion for s in ctx.plan.stages)
    return EngineSettings(
        max_model_tokens=min(longest + ctx.room.tokens, positions_of(model)),
        max_sequences=hardware.max_sequences_per_engine,
        device=ctx.plan.device,
        dtype=ctx.plan.recipe.model.dtype,
        kv_cache_gib=hardware.kv_cache_gib,
        gpus=hardware.gpus_per_engine,
        gpu_memory_fraction=hardware.gpu_memory_fraction,
        engine=engine_for(hardware, config, device=ctx.plan.device),
        channel=channel_of(hardware, device=ctx.plan.device),
        own_code=_runs_own_code(ctx, model),
    )


def _runs_own_code(ctx: RunContext, model: Path) -> bool:
    """Whether a folder is that of a model which the recipe lets run the code it brings along."""
    names = [name for name, a in ctx.artifacts.items() if a.path / MODEL_FOLDER == model]
    return any(runs_own_code(ctx.plan.recipe, name) for name in names)


def prepare_engines(ctx: RunContext, stages: Sequence[StagePlan]) -> None:
    """Engines load the base while the first stages train, where a later one serves its kind.

    On a CPU alone: on a GPU an engine takes its whole share of memory at once.
    """
    serving = next((stage for stage in stages if stage.spec.uses_engines), None)
    if serving is None or serving is stages[0] or ctx.plan.device != "cpu":
        return
    recipe = ctx.plan.recipe
    if BASE in ctx.artifacts and first_source(recipe, serving.name) == recipe.model:
        model = model_of(ctx, BASE)
        ctx.cluster.prepare(model, engine_settings(ctx, model))


def serve(
    ctx: RunContext,
    model: Path,
    *,
    rewards: Sequence[str],
    unweighted: Sequence[RewardUse] = (),
    version: int = 0,
) -> Serving:
    """Engines holding `model`, and the service scoring with the named rewards."""
    recipe = ctx.plan.recipe
    uses = tuple(
        RewardUse(
            name=name,
            ref=judge.use,
            weight=recipe.rewards[name].weight,
            args=judge.args,
            source=source,
        )
        for name in rewards
        for source, judge in judges(recipe, name)
    )
    setup = ServiceSetup(
        model=model,
        rewards=(*uses, *unweighted),
        preface=prefaces(ctx),
        base=Path.cwd(),
        verifier_workers=recipe.hardware.verifier_workers,
    )
    return ctx.cluster.serve(setup, engine_settings(ctx, model), version=version)


def prefaces(ctx: RunContext) -> Mapping[str, Sequence[Message]]:
    """What stands before every question, by prompts entry."""
    return {name: source.preface for name, source in ctx.plan.recipe.prompts.items()}


def energy_device(ctx: RunContext) -> str:
    """The device whose energy is measured, as `pipeline.measure.energy.DEVICE_CLASSES` has it."""
    return "h100" if ctx.plan.device == "cuda" else "cpu"


def check_stop(ctx: RunContext, plan: StagePlan) -> None:
    """Raise Stopped when the user asked for an end."""
    if ctx.stopping():
        raise Stopped(f"{plan.name} stopped; the same command goes on")
