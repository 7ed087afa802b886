"""`kind: depth`: how many iterations each token deserves, part by part."""

from typing import Literal, get_args

from pydantic import (
    Field,
    PositiveFloat,
    PositiveInt,
    model_validator,
)

from pipeline.recipe.section import Fraction, Strict
from pipeline.recipe.training_stages import StageBase


class RandomDepthSft(Strict):
    """SFT on `rows` at random depths, so that any depth can be asked for."""

    epochs: PositiveFloat = 1  # ours
    lr: PositiveFloat = 2e-4  # ours
    final_lr_fraction: Fraction = 0.1
    batch_rows: PositiveInt = 64  # ours
    micro_batch_rows: PositiveInt = 16
    max_tokens: PositiveInt = 1024  # prompt and completion; longer rows are left out
    segment: PositiveInt | None = 1  # tokens that share a depth; null: the whole row
    save_steps: PositiveInt = 100


class HeadroomCheck(Strict):
    """Accuracy at every fixed depth on the first `size` of `prompts`: go or no go."""

    size: PositiveInt = 256  # ours
    samples_per_prompt: PositiveInt = 4  # ours; two at least tell depth from luck


class HaltingWarmStart(Strict):
    """The halting head, the exit gate and the critic from labels, before any reward."""

    size: PositiveInt = 512  # prompts whose full-depth completions are labelled
    samples_per_prompt: PositiveInt = 1
    steps: PositiveInt = 400  # of the head, and of the gate and the critic
    lr: PositiveFloat = 2e-3
    bias: float = Field(default=1.0, ge=0.0)  # nats towards going on: RL starts from deep
    labels: Literal["later", "best", "step"] = "later"
    """Ours, of the loss of all that follows or of the token's own; or Ouro's, of its own loss at
    the very next iteration."""
    probes: PositiveInt = 16  # tokens (or segments) of a completion that `later` labels


class DepthRl(Strict):
    """Policy-gradient steps on the halting head, from rollouts that run at the depths it chose."""

    steps: PositiveInt = 60
    prompts_per_step: PositiveInt = 32
    samples_per_prompt: PositiveInt = 8
    forced: int = Field(default=2, ge=0)  # members of a group at a fixed depth, full or shallow
    price: tuple[PositiveFloat, PositiveFloat] = (0.1, 10.0)
    """Range of lambda: accuracy that a full-depth completion's iterations are worth."""
    price_tokens: float = Field(default=0.0, ge=0.0)  # of a full-depth completion's tokens
    lr: PositiveFloat = 1e-3
    epochs: PositiveInt = 2  # over a step's decisions
    minibatches: PositiveInt = 4  # per epoch
    clip: PositiveFloat = 0.2
    entropy: float = Field(default=0.02, ge=0.0)
    """Worth of a nat of entropy per decision, in iterations at lambda = 1; falls to 0 linearly."""
    kl: float = Field(default=0.0, ge=0.0)  # to the warm start, in the same unit
    max_grad_norm: PositiveFloat = 1.0
    seeds: PositiveInt = 1  # heads trained from different draws; the first is exported

    @model_validator(mode="after")
    def _check(self) -> "DepthRl":
        low, high = self.price
        if low >= high:
            raise ValueError(f"price={list(self.price)} is no range: write [low, high]")
        if self.samples_per_prompt - self.forced < 2:
            raise ValueError(
                f"samples_per_prompt={self.samples_per_prompt} leaves fewer than 2 members beside "
                f"forced={self.forced}: the policy is compared with itself"
            )
        return self


class JointPhase(Strict):
    """Tokens and depths by turns: GRPO on the language model at the depths that ran, then steps of
    the halting head on the new weights. Prompts, samples and the head's settings are those of `rl`.

    It starts from the policy of the first seed alone. Its model is calibrated and exported, and
    stands in the report as `joint` beside the policies, which stay as they were.
    """

    rounds: PositiveInt = 2  # ours
    token_steps: PositiveInt = 20  # a round, rollout batches, each used once; ours
    head_steps: PositiveInt = 10  # a round, as in rl; ours
    lr: PositiveFloat = 3e-6  # R1; of the language model
    updates_per_step: PositiveInt = 1  # optimizer steps per rollout batch (R1: 16 of 8,192)
    backprop_iterations: PositiveInt | None = None
    """Gradients pass a token's last ones only; default: 8, as Huginn's (arXiv 2502.05171)."""
    clip: PositiveFloat = 0.2  # PPO, arXiv 1707.06347; R1 10.0
    kl: float = Field(default=0.001, ge=0.0)  # R1; to the model that the phase begins with
    max_grad_norm: PositiveFloat = 1.0  # ours
    micro_batch_rows: PositiveInt = 8  # completions per forward pass; memory only


class DepthCalibration(Strict):
    """Budgets to prices, by measuring on the first `size` prompts of `calibration`."""

    size: PositiveInt = 256
    points: int = Field(default=9, ge=2)  # prices over their range
    rounds: PositiveInt = 4  # further measurements for each of `budgets` at most
    tolerance: PositiveFloat = 0.02  # share of the full depth within which a budget is met


Baseline = Literal[
    "fixed_whole", "permuted", "kl", "latent", "entropy", "second_order", "q_exit", "critic",
    "labels", "own_labels", "warm_start", "policy_sampled", "oracle",
]  # fmt: skip


SLIDER_BUDGETS = 5
"""Budgets, none of them calibrated, that a report tries the slider at."""


class DepthPareto(Strict):
    """The policy and its baselines on the first `size` prompts of `held_out`."""

    size: PositiveInt = 500
    samples_per_prompt: PositiveInt = 1
    points: int = Field(default=5, ge=2)  # settings of every method that has a threshold or a price
    baselines: list[Baseline] = Field(default_factory=lambda: list(get_args(Baseline)))
    transfer: list[str] = Field(default_factory=list)
    """Prompts entries unlike those learned from: the policy against the fixed depths there too."""


class DepthStage(StageBase):
    """How many iterations each token of a recurrent model deserves.

    The language model stays as it is after `random_depth`, unless there is a `joint` phase; a small
    halting head learns. Depth 1 to `max_depth`; a budget is mean iterations per completion token
    over `max_depth`.
    """

    kind: Literal["depth"]
    init: str = "base"
    prompts: str  # to learn from
    calibration: str  # prompts entry on which budgets are measured
    held_out: str  # prompts entry of the Pareto report
    reward: str = "answer"
    rows: list[str] | str | None = None  # as in sft; default: `init` knows all depths already
    max_depth: int = Field(ge=2)  # at most the model's max_iterations
    prompt_depth: PositiveInt = 2  # of prompt positions but the last
    segment: PositiveInt = 1  # tokens that share one decision
    max_tokens: PositiveInt  # of a completion
    temperature: PositiveFloat = 1.0  # of every rollout
    budgets: list[Fraction] | None = Field(default=None, min_length=1)
    """The lowest, the middle one and the highest are the efforts low, medium and high; default: a
    tenth, a half and nine tenths of the way between what the policy's highest and lowest price
    spend."""
    halting_width: PositiveInt = 32
    batch_rows: PositiveInt = 64  # completions per replay; memory only
    force: bool = False  # go on also where the headroom says no go
    random_depth: RandomDepthSft | None = None  # of rows; default: its own defaults
    headroom: HeadroomCheck = HeadroomCheck()
    warm_start: HaltingWarmStart = HaltingWarmStart()
    rl: DepthRl = DepthRl()
    joint: JointPhase | None = None  # default: the language model stays frozen; {}: its defaults
    calibrate: DepthCalibration = DepthCalibration()
    pareto: DepthPareto = DepthPareto()

    @model_validator(mode="after")
    def _check(self) -> "DepthStage":
        least = 1 / self.max_depth
        budgets = self.budgets or []
        if budgets and (budgets != sorted(set(budgets)) or budgets[0] < least):
            raise ValueError(
                f"budgets={self.budgets} must rise from at least {least:.3g}, one iteration of "
                f"max_depth={self.max_depth}, to at most 1"
            )
        if self.prompt_depth > self.max_depth:
            raise ValueError(f"prompt_depth={self.prompt_depth} is over max_depth={self.max_depth}")
        if self.rows is None and self.random_depth is not None:
            raise ValueError("random_depth trains on rows; name them: rows: PROMPTS.COLUMN")
        if self.joint is not None:
            self._check_joint(self.joint)
        return self

    def _check_joint(self, joint: JointPhase) -> None:
        if (joint.backprop_iterations or 0) > self.max_depth:
            raise ValueError(
                f"joint.backprop_iterations={joint.backprop_iterations} is over "
                f"max_depth={self.max_depth}, the most that a token runs: lower it, or leave it out"
            )
        if self.rl.prompts_per_step % joint.updates_per_step:
            raise ValueError(
                f"joint.updates_per_step={joint.updates_per_step} must divide "
                f"rl.prompts_per_step={self.rl.prompts_per_step}"
            )
