"""Stages that train: sft, grpo, reward_model, distill."""

from typing import Literal

from pydantic import (
    Field,
    PositiveFloat,
    PositiveInt,
    model_validator,
)

from pipeline.recipe.model_source import ModelSource
from pipeline.recipe.reward_spec import ModelReward
from pipeline.recipe.section import Fraction, Strict

Variant = Literal["grpo", "dapo", "dr_grpo", "gspo", "cispo"]


class Watch(Strict):
    """Held-out accuracy during training."""

    prompts: str
    every_steps: PositiveInt = 10
    size: PositiveInt = 200


class StageBase(Strict):
    """What every stage has. `pipeline.recipe.schema.inputs_of` lists what it reads."""


class Training(StageBase):
    """What every training stage has."""

    init: str = "base"  # `base` or the name of an earlier stage
    lr: PositiveFloat
    micro_batch_rows: PositiveInt = 8  # rows per rank and forward pass; memory only
    save_steps: PositiveInt = 20
    max_grad_norm: PositiveFloat = 1.0  # ours
    weight_decay: float = 0.0  # ours
    warmup_fraction: Fraction = 0.03  # ours
    adam_betas: tuple[float, float] = (0.9, 0.95)  # ours
    gradient_checkpointing: bool = False


class RandomDepths(Strict):
    """How many iterations each training sequence of a recurrent model runs."""

    kind: Literal["uniform", "log_normal_poisson"] = "uniform"  # the second is Huginn's
    low: PositiveInt = 1
    high: PositiveInt
    mean: PositiveFloat = 4.0  # log_normal_poisson only
    segment: PositiveInt | Literal["batch"] | None = None
    """Tokens that share a depth; default: the whole sequence; batch: whatever goes through the
    model together, as Huginn's micro-batches, at the cost of the drawn depth alone."""
    prompt_depth: PositiveInt | None = None  # of prompt positions but the last; default: as drawn

    @model_validator(mode="after")
    def _check(self) -> "RandomDepths":
        if self.low > self.high:
            raise ValueError(f"low={self.low} is over high={self.high}")
        if self.kind == "uniform" and "mean" in self.model_fields_set:
            raise ValueError("mean is for kind: log_normal_poisson; uniform has low and high")
        return self


class SftStage(Training):
    """Supervised fine-tuning on `rows`: `PROMPTS.COLUMN` or the name of a reject stage."""

    kind: Literal["sft"]
    rows: list[str] | str
    epochs: PositiveFloat = 2  # R1: 2 to 3
    lr: PositiveFloat = 5e-5  # R1
    final_lr_fraction: Fraction = 0.1  # R1: cosine 5e-5 to 5e-6
    batch_rows: PositiveInt = 128  # R1
    max_tokens: PositiveInt = 32768  # R1
    packing: bool = False
    shuffle: bool = True  # false: rows in the order of `rows`, for a curriculum
    completion_only: bool = True  # loss on the completion only
    random_depths: RandomDepths | None = None  # recurrent models; default: the model's own depth

    @model_validator(mode="after")
    def _check(self) -> "SftStage":
        if self.packing and self.random_depths is not None:
            raise ValueError(
                "random_depths and packing: true do not go together: set packing: false"
            )
        return self


class GrpoStage(Training):
    """GRPO on rule rewards (DeepSeekMath, arXiv 2402.03300); also R1's alignment RL."""

    kind: Literal["grpo"]
    prompts: str
    rewards: list[str | ModelReward]
    steps: PositiveInt  # rollout batches, each used once
    prompts_per_step: PositiveInt = 32  # R1
    samples_per_prompt: int = 16  # R1
    updates_per_step: PositiveInt = 1  # optimizer steps per rollout batch (R1: 16 of 8,192)
    temperature: PositiveFloat = 1.0  # R1; 0.7 in alignment RL
    top_p: float = 1.0
    max_tokens: PositiveInt = 32768  # R1
    lr: PositiveFloat = 3e-6  # R1
    warmup_fraction: Fraction = 0.0  # ours
    lr_schedule: Literal["constant", "linear", "cosine"] = "constant"  # ours
    kl: float = Field(default=0.001, ge=0.0)  # R1
    reference_every: PositiveInt | None = 400  # R1: steps until the policy becomes the reference
    clip: PositiveFloat | None = None  # default: the variant's own; R1 10.0 for grpo
    variant: Variant = "grpo"
    truncation_cap: PositiveFloat = 2.0  # ours: cap of the token-level importance ratio
    resample_rounds: int = Field(default=2, ge=0)  # ours: replacement of zero-variance groups
    infra_error_limit: Fraction = 0.01  # ours: share of unscored samples that stops the run
    watch: Watch | None = None

    @model_validator(mode="after")
    def _check(self) -> "GrpoStage":
        if self.samples_per_prompt < 2:
            raise ValueError(
                f"samples_per_prompt={self.samples_per_prompt}: GRPO compares samples of one "
                "prompt and needs at least 2"
            )
        if self.top_p != 1.0:
            raise ValueError(
                f"top_p={self.top_p}: RL samples from the full distribution, since the trainer "
                "recomputes log-probabilities over the whole vocabulary; set top_p: 1.0"
            )
        models = [reward for reward in self.rewards if isinstance(reward, ModelReward)]
        if self.rewards and len(models) == len(self.rewards):
            raise ValueError("rewards has no rule reward; name at least one entry of `rewards:`")
        if len(models) > 1:
            raise ValueError(f"rewards has {len(models)} reward models; give one at most")
        if self.prompts_per_step % self.updates_per_step:
            raise ValueError(
                f"updates_per_step={self.updates_per_step} must divide "
                f"prompts_per_step={self.prompts_per_step}"
            )
        return self


class RewardModelStage(Training):
    """A pairwise reward model (Bradley-Terry) on `pairs`."""

    kind: Literal["reward_model"]
    pairs: str  # a reject stage (correct against wrong), or prompts with `chosen` and `rejected`
    lr: PositiveFloat = 1e-5  # ours
    epochs: PositiveFloat = 1  # ours
    batch_rows: PositiveInt = 128  # ours
    max_tokens: PositiveInt = 32768
    length_balance: bool = True  # R1: chosen and rejected have comparable lengths overall
    max_pairs: PositiveInt | None = None


class DistillStage(Training):
    """Distillation into `student`: SFT on harvested rows (R1), or on-policy (GKD)."""

    kind: Literal["distill"]
    teacher: str
    student: ModelSource
    rows: list[str] | str
    mode: Literal["rows", "on_policy"] = "rows"
    lr: PositiveFloat = 1e-4  # R1, 1.5B
    epochs: PositiveFloat = 2  # R1: 2 to 3
    final_lr_fraction: Fraction = 0.1  # R1
    batch_rows: PositiveInt = 64  # R1
    max_tokens: PositiveInt = 32768
    packing: bool = False
    steps: PositiveInt | None = None  # on_policy: optimizer steps

    @model_validator(mode="after")
    def _check(self) -> "DistillStage":
        if self.steps is not None and self.mode == "rows":
            raise ValueError(f"steps={self.steps} is for mode: on_policy; rows go by epochs")
        return self
