"""GRPO on the rollout service's groups.

The service makes and scores the completions; `grpo_step` is the optimizer's side. Here a stage
becomes a trainer: transformers' arguments, models, and the exchange of weights for rollouts.

With `ahead: 1` a step's rollouts are of the step before it (`pipeline.generate.step_queue`). Which
weights made a step is still a function of the step alone: a checkpoint is complete only when the
step that it goes on with is in the journal, so a resumed trainer needs no weights of before it.

A recurrent model is trained at the depths that its rollouts ran at. One that comes with a
calibration is sampled at its default effort, its head as it is; what is trained has no calibration.
"""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import torch
import torch.distributed as dist
from datasets import Dataset
from transformers import (
    AutoModelForCausalLM,
    PreTrainedModel,
    PreTrainedTokenizerBase,
    TrainerCallback,
    TrainerControl,
    TrainerState,
    TrainingArguments,
)
from trl.trainer.utils import disable_dropout_in_model

from pipeline.generate.client import RolloutClient, Slice
from pipeline.measure.ledger import Phase, PhaseClock
from pipeline.recipe.grpo_stage import GrpoStage
from pipeline.recipe.hardware import LAYERS_SHARED
from pipeline.recurrent.config import RecurrentConfig
from pipeline.train.adapter import transformers_model, with_adapters
from pipeline.train.arguments import (
    Batches,
    load_tokenizer,
    shared_arguments,
    split_batch,
    trainer_process,
    weights_dtype,
)
from pipeline.train.callbacks import ReferenceKeeper, find_resume
from pipeline.train.engine_weights import EngineWeights
from pipeline.train.grpo_step import GrpoStepTrainer, StepSettings
from pipeline.train.job import TrainJob
from pipeline.train.loop import run

PositionDepths = Sequence[Sequence[int]]
"""[_B][_P + _T - 1] of each completion: the depths of the positions that ran."""


def train(job: TrainJob, *, rollouts: RolloutClient) -> dict[str, Any]:
    """Train `job.model` by GRPO on the service's rollouts; goes on from the newest checkpoint.

    Returns:
        status (done or stopped), steps (rollout batches), completions (used).

    Raises:
        ValueError: the batch cannot be split evenly.
    """
    with trainer_process(job):
        return _train(job, rollouts)


def _train(job: TrainJob, rollouts: RolloutClient) -> dict[str, Any]:
    spec = job.spec
    assert isinstance(spec, GrpoStage)
    tokenizer = load_tokenizer(job.model)
    source = RolloutSource(job, rollouts)
    trainer = make_trainer(job, tokenizer, source)
    updates = spec.updates_per_step
    callbacks: list[TrainerCallback] = [StepAwaited(job, rollouts)] if spec.ahead else []
    if trainer.ref_model is not None:
        every = None if spec.reference_every is None else spec.reference_every * updates
        reference: Any = trainer.accelerator.unwrap_model(trainer.ref_model)  # named as the policy
        callbacks.append(ReferenceKeeper(reference, every=every, resumed=find_resume(job)))
    result = run(
        trainer,
        job,
        tokenizer,
        callbacks=callbacks,
        extra=source.metrics,
        stop_every=updates,
        phases=source.phases,
        frozen=trainer.ref_model,
    )
    steps = result["steps"] // updates
    completions = steps * spec.prompts_per_step * spec.samples_per_prompt
    return {"status": result["status"], "steps": steps, "completions": completions}


def make_trainer(
    job: TrainJob, tokenizer: PreTrainedTokenizerBase, source: "RolloutSource"
) -> GrpoStepTrainer:
    """The trainer of a stage, fed by `source`."""
    spec = job.spec
    assert isinstance(spec, GrpoStage)
    arguments = grpo_arguments(job)  # before the models: under ZeRO-3 they load in shards by it
    trainer = GrpoStepTrainer(
        settings=StepSettings(
            spec=spec,
            micro_rows=_batches(job).micro_rows,
            seed=job.seed,
            engine_dtype=job.dtype,
            rollouts=source,
        ),
        model=with_adapters(_model(job), job),
        reference=_model(job) if spec.has_reference_weights else None,
        args=arguments,
        # rows only count: the service decides what each step's prompts are
        train_dataset=Dataset.from_dict({"row": range(arguments.max_steps * job.ranks)}),
        data_collator=lambda rows: {"rows": torch.zeros(len(rows))},
        processing_class=tokenizer,
    )
    source.trainer = trainer
    return trainer


def _model(job: TrainJob) -> PreTrainedModel:
    model = AutoModelForCausalLM.from_pretrained(
        job.model, dtype=weights_dtype(job), trust_remote_code=job.own_code
    )
    without_dropout(model)
    return model


def without_dropout(model: PreTrainedModel) -> None:
    """Leave out dropout in place, also where a layer calls it as a function with a rate of its own,
    as OPT's do: sampled tokens have the probabilities of the whole model."""
    disable_dropout_in_model(model)
    for module in model.modules():
        for name, value in vars(module).items():
            if "drop" in name and isinstance(value, float):
                setattr(module, name, 0.0)


def _batches(job: TrainJob) -> Batches:
    spec = job.spec
    assert isinstance(spec, GrpoStage)
    completions = spec.completions_per_step // spec.updates_per_step
    return split_batch(completions, micro_batch_rows=spec.micro_batch_rows, ranks=job.ranks)


def grpo_arguments(job: TrainJob) -> TrainingArguments:
    """transformers' arguments of a stage. Each of its steps is an update: how its completions are
    split over forward passes is ours."""
    spec = job.spec
    assert isinstance(spec, GrpoStage)
    updates = spec.updates_per_step
    shared = shared_arguments(
        job,
        batches=Batches(micro_rows=1, accumulation=1),
        steps=spec.steps * updates,
        schedule="constant",
        warmup_fraction=0.0,
    )
    options: dict[str, Any] = shared | {
        "save_steps": spec.save_steps * updates,
        "remove_unused_columns": False,
        "ignore_data_skip": True,
    }
    return TrainingArguments(**options)


class RolloutSource:
    """Weights to the engines, completions from them: both answered by the rollout service."""

    def __init__(self, job: TrainJob, rollouts: RolloutClient) -> None:
        assert isinstance(job.spec, GrpoStage)
        self._spec = job.spec
        self._rollouts = rollouts
        self._metrics: dict[str, float] = {}
        self.phases = PhaseClock()
        self._sharding = job.sharding
        self._layers_shared = job.sharding in LAYERS_SHARED and job.ranks > 1
        self.trainer: GrpoStepTrainer | None = None

    def __call__(self, step: int) -> Slice:
        """This rank's completions of a step, sampled at the weights of now, or of the step before
        it where the stage is ahead; then the next step's are begun."""
        assert self.trainer is not None
        accelerator = self.trainer.accelerator
        if step == 0 or not self._spec.ahead:
            self.sync_weights(step)
        with self.phases.during("generation"):
            part = self._rollouts.slice(
                step, rank=accelerator.process_index, ranks=accelerator.num_processes
            )
        self.phases.divide("generation", waiting(part.metrics))
        if self._spec.ahead and step + 1 < self._spec.steps:
            if step > 0:
                self.sync_weights(step)
            if accelerator.is_main_process:
                self._rollouts.begin(step + 1)
        self._metrics = dict(part.metrics)
        depths = training_depths(part, iterations=num_iterations(self.trainer))
        if depths is not None and self._layers_shared:
            raise ValueError(
                f"hardware.sharding: {self._sharding} gathers each layer on all ranks at once, "
                "which rollouts of different depths do not allow: set sharding: zero2"
            )
        return replace(part, depths=depths)

    def sync_weights(self, step: int) -> None:
        """Push the policy to the engines as this step's version; every rank takes part."""
        assert self.trainer is not None
        with self.phases.during("sync"):
            accelerator = self.trainer.accelerator
            weights = engine_weights(self.trainer)
            self._rollouts.push_weights(weights, version=step, rank=accelerator.process_index)
            if accelerator.num_processes > 1:
                dist.barrier()

    def metrics(self) -> dict[str, float]:
        """What the service measured of the step that was trained last."""
        return self._metrics


def waiting(metrics: Mapping[str, float]) -> dict[Phase, float]:
    """What the service did for a step, in its order, seconds; nothing where it does not say."""
    evaluation = metrics.get("held_out_seconds", 0.0)
    verification = metrics.get("verification_seconds", 0.0)
    whole = metrics.get("rollout_seconds", 0.0)
    return {
        "evaluation": evaluation,
        "generation": max(whole - evaluation - verification, 0.0),
        "verification": verification,
    }


class StepAwaited(TrainerCallback):
    """Keeps a checkpoint incomplete until the step that it goes on with is in the journal."""

    def __init__(self, job: TrainJob, rollouts: RolloutClient) -> None:
        assert isinstance(job.spec, GrpoStage)
        self._steps, self._updates = job.spec.steps, job.spec.updates_per_step
        self._rollouts = rollouts

    def on_save(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any
    ) -> None:
        """Wait for the step, on rank 0: the others wait for it as the checkpoint ends."""
        step = state.global_step // self._updates
        if args.process_index == 0 and step < self._steps:
            self._rollouts.slice(step, rank=0, ranks=1)


def num_iterations(trainer: GrpoStepTrainer) -> int | None:
    """Depth at which the policy runs where none is given; None for a dense model."""
    model: Any = trainer.accelerator.unwrap_model(trainer.model)
    config = transformers_model(model).config
    return config.num_iterations if isinstance(config, RecurrentConfig) else None


def training_depths(part: Slice, *, iterations: int | None) -> PositionDepths | None:
    """The depths to train at; None where a pass without depths runs at the same."""
    if part.depths is None or all(depth == iterations for row in part.depths for depth in row):
        return None
    return part.depths


def engine_weights(trainer: GrpoStepTrainer) -> EngineWeights:
    """The policy's weights by the names that engines know."""
    model: Any = trainer.accelerator.unwrap_model(trainer.model)
    return EngineWeights(model, named=transformers_model(model))
