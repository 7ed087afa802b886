"""GRPO on the rollout service's groups, through TRL's GRPOTrainer.

TRL drives the optimizer; our service makes and scores the completions. Rewards travel as an extra
field of the rollouts, so TRL's reward function only passes them on. What TRL leaves to choose is
settled here: no importance correction that drops long completions, rollouts from the full
distribution, R1's objective, a reference that survives a resume.

A recurrent model is trained at the depths that its rollouts ran at. One that comes with a
calibration is sampled at its default effort, its head as it is; what is trained has no calibration.
"""

import os
import warnings
from collections.abc import Sequence
from typing import Any

import torch
import torch.distributed as dist
from datasets import Dataset
from transformers import PreTrainedTokenizerBase
from trl import GRPOConfig, GRPOTrainer

from pipeline.generate.client import RolloutClient, Slice
from pipeline.generate.schedule import derived_seed
from pipeline.recipe.grpo_stage import GrpoStage, Variant
from pipeline.recurrent.config import RecurrentConfig
from pipeline.train.arguments import (
    load_tokenizer,
    shared_arguments,
    split_batch,
    trainer_process,
    weights_dtype,
)
from pipeline.train.callbacks import ReferenceKeeper, find_resume, full_weights
from pipeline.train.job import TrainJob
from pipeline.train.loop import run
from pipeline.train.recorded_depths import PositionDepths, RecordedDepthsTrainer

TRUNCATION_CAP = 2.0
"""Cap of a token's importance ratio of trainer to engine; ours."""

DEFAULT_CLIP: dict[Variant, tuple[float, float]] = {
    "grpo": (10.0, 10.0),  # R1, RL-1
    "dapo": (0.2, 0.28),  # arXiv 2503.14476, section 3.1
    "dr_grpo": (0.2, 0.2),  # arXiv 2503.20783
    "gspo": (3e-4, 4e-4),  # arXiv 2507.18071, section 5.1
    "cispo": (10.0, 5.0),  # arXiv 2506.13585: no lower clip; upper as in arXiv 2510.13786
}

OBJECTIVE: dict[Variant, dict[str, Any]] = {
    "grpo": {"loss_type": "grpo", "scale_rewards": "group"},
    "dapo": {"loss_type": "dapo", "scale_rewards": "group"},
    "dr_grpo": {"loss_type": "dr_grpo", "scale_rewards": "none"},
    "gspo": {
        "loss_type": "grpo",
        "scale_rewards": "group",
        "importance_sampling_level": "sequence",
    },
    "cispo": {"loss_type": "cispo", "scale_rewards": "batch"},
}


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
    callbacks = []
    if trainer.ref_model is not None:
        every = None if spec.reference_every is None else spec.reference_every * updates
        resumed = find_resume(job)
        reference: Any = trainer.ref_model
        callbacks.append(ReferenceKeeper(reference, every=every, resumed=resumed))
    result = run(
        trainer, job, tokenizer, callbacks=callbacks, extra=source.metrics, stop_every=updates
    )
    steps = result["steps"] // updates
    completions = steps * spec.prompts_per_step * spec.samples_per_prompt
    return {"status": result["status"], "steps": steps, "completions": completions}


def make_trainer(
    job: TrainJob, tokenizer: PreTrainedTokenizerBase, source: "RolloutSource"
) -> RecordedDepthsTrainer:
    """TRL's trainer, fed by `source`. Its own generation is never built."""
    spec = job.spec
    assert isinstance(spec, GrpoStage)
    os.environ["TRL_EXPERIMENTAL_SILENCE"] = "1"
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message=".*rollout_func.*")
        trainer = RecordedDepthsTrainer(
            model=str(job.model),
            reward_funcs=[passed_on],
            args=grpo_arguments(job),
            # rows only count: the service decides what each step's prompts are
            train_dataset=Dataset.from_dict({"prompt": [""] * spec.prompts_per_step * spec.steps}),
            processing_class=tokenizer,
            rollout_func=source,
        )
    trainer.use_vllm = True  # switches on the weight sync and the importance correction
    engines: Any = source
    trainer.vllm_generation = engines
    trainer._last_loaded_step = -1
    trainer.engine_dtype, trainer.rollout_updates = job.dtype, spec.updates_per_step
    source.trainer = trainer
    return trainer


def grpo_arguments(job: TrainJob) -> GRPOConfig:
    """TRL's configuration of a stage. TRL counts in micro-steps; the recipe counts in rollouts."""
    spec = job.spec
    assert isinstance(spec, GrpoStage)
    completions = spec.prompts_per_step * spec.samples_per_prompt // spec.updates_per_step
    batches = split_batch(completions, micro_batch_rows=spec.micro_batch_rows, ranks=job.ranks)
    low, high = DEFAULT_CLIP[spec.variant]
    if spec.clip is not None:
        low = high = spec.clip
    shared = shared_arguments(
        job,
        batches=batches,
        steps=spec.steps * spec.updates_per_step,
        schedule="constant",
        warmup_fraction=0.0,
    )
    return GRPOConfig(
        **shared
        | {
            "save_steps": spec.save_steps * spec.updates_per_step,
            "train_sampling_strategy": "random",  # TRL has a sampler of its own
        },
        model_init_kwargs={"dtype": weights_dtype(job)},
        num_generations=spec.samples_per_prompt,
        steps_per_generation=batches.accumulation * spec.updates_per_step,
        max_completion_length=spec.max_tokens,
        temperature=spec.temperature,
        top_p=1.0,
        beta=spec.kl,
        use_bias_correction_kl=False,
        epsilon=low,
        epsilon_high=high,
        vllm_importance_sampling_correction=True,
        vllm_importance_sampling_mode="token_truncate",
        vllm_importance_sampling_clip_max=TRUNCATION_CAP,
        mask_truncated_completions=False,
        disable_dropout=True,
        shuffle_dataset=False,
        ignore_data_skip=True,
        log_completions=False,
        **OBJECTIVE[spec.variant],
    )


class RolloutSource:
    """TRL's `rollout_func` and its weight sync, both answered by the rollout service."""

    def __init__(self, job: TrainJob, rollouts: RolloutClient) -> None:
        assert isinstance(job.spec, GrpoStage)
        self._updates = job.spec.updates_per_step
        self._seed = job.seed
        self._rollouts = rollouts
        self._metrics: dict[str, float] = {}
        self._layers_shared = job.sharding == "zero3" and job.ranks > 1
        self.trainer: RecordedDepthsTrainer | None = None

    def __call__(self, prompts: Sequence[str], trainer: GRPOTrainer) -> dict[str, Any]:
        """This rank's completions of the current step, in TRL's terms.

        TRL shuffles them next, so the generator is seeded by the step: a resume repeats it.
        """
        assert isinstance(trainer, RecordedDepthsTrainer)
        step = trainer.state.global_step // self._updates
        torch.manual_seed(derived_seed(self._seed, "shuffle", step))
        part = self._rollouts.slice(
            step,
            rank=trainer.accelerator.process_index,
            ranks=trainer.accelerator.num_processes,
        )
        if len(part.tokens) != len(prompts):
            raise RuntimeError(f"{len(prompts)} completions expected, {len(part.tokens)} came")
        self._metrics = dict(part.metrics)
        trainer.rollout_depths = training_depths(part, iterations=num_iterations(trainer))
        if trainer.rollout_depths is not None and self._layers_shared:
            raise ValueError(
                "hardware.sharding: zero3 gathers each layer on all ranks at once, which rollouts "
                "of different depths do not allow: set sharding: zero2"
            )
        return {
            "prompt_ids": [list(ids) for ids in part.prompt_tokens],
            "completion_ids": [list(ids) for ids in part.tokens],
            "logprobs": [list(values) for values in part.logprobs],
            "stepwell_reward": list(part.rewards),
        }

    def sync_weights(self) -> None:
        """Push the policy to the engines as the current step's version; every rank takes part."""
        assert self.trainer is not None
        weights = engine_weights(self.trainer)
        if self.trainer.accelerator.is_main_process:
            version = self.trainer.state.global_step // self._updates
            self._rollouts.push_weights(weights, version=version)
        if self.trainer.accelerator.num_processes > 1:
            dist.barrier()

    def metrics(self) -> dict[str, float]:
        """What the service measured of the step that was trained last."""
        return self._metrics


def num_iterations(trainer: RecordedDepthsTrainer) -> int | None:
    """Depth at which the policy runs where none is given; None for a dense model."""
    model: Any = trainer.accelerator.unwrap_model(trainer.model)
    config = model.config
    return config.num_iterations if isinstance(config, RecurrentConfig) else None


def training_depths(part: Slice, *, iterations: int | None) -> PositionDepths | None:
    """The depths to train at; None where a pass without depths runs at the same."""
    if part.depths is None or all(depth == iterations for row in part.depths for depth in row):
        return None
    return part.depths


def engine_weights(trainer: RecordedDepthsTrainer) -> dict[str, torch.Tensor]:
    """The policy's weights by checkpoint name; a tied output head is named too.

    An engine reloads layer by layer and would keep its old head if only the embedding came.
    """
    model: Any = trainer.accelerator.unwrap_model(trainer.model)
    weights = full_weights(model)
    if model.config.tie_word_embeddings and "lm_head.weight" not in weights:
        embedding = next(name for name in weights if name.endswith("embed_tokens.weight"))
        weights["lm_head.weight"] = weights[embedding]
    return weights


def passed_on(
    prompts: Sequence[str], completions: Sequence[str], stepwell_reward: Sequence[Any], **_: Any
) -> list[float | None]:
    """Pass on the reward that came with each rollout; None leaves a completion unscored."""
    return list(stepwell_reward)
