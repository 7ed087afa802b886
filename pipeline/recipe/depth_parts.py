"""The parts of a depth stage: what its recipe says of each, and what all comparisons share."""

from collections.abc import Mapping
from typing import ClassVar, Literal, get_args

from pydantic import Field, PositiveFloat, PositiveInt, model_validator

from pipeline.recipe.section import Strict
from pipeline.recipe.sft_stage import COSINE_END

LEAST_PROMPTS = 5
"""Of the headroom: every fifth tells when the critic has learned enough."""
LEAST_COMPARED = 2
"""Of a comparison: one half places settings, the other reports them."""


class RandomDepthSft(Strict):
    """SFT on `rows`, each token at a random depth, so that any depth can be asked for."""

    removed_keys: ClassVar[Mapping[str, str]] = {
        "final_lr_fraction": COSINE_END,
        "segment": "each token has a depth of its own",
        "epochs": "there is one pass over the rows; name more of them",
    }

    lr: PositiveFloat = 2e-4
    """Peak learning rate. Ours."""
    batch_rows: PositiveInt = 64
    """Rows per optimizer step, over all ranks. Ours."""
    micro_batch_rows: PositiveInt = 16
    """Rows per rank and forward pass: memory only."""
    max_tokens: PositiveInt = 1024
    """Tokens of prompt and completion; longer rows are left out."""
    save_steps: PositiveInt = 100
    """Optimizer steps between checkpoints that a resumed run goes on from."""


class HeadroomCheck(Strict):
    """Accuracy at every fixed depth on the first prompts to learn from: go or no go."""

    size: int = Field(default=256, ge=LEAST_PROMPTS)
    """The first so many of `prompts`. Ours."""
    samples_per_prompt: PositiveInt = 4
    """Completions at each depth; two at least tell depth from luck. Ours."""


class HaltingWarmStart(Strict):
    """The halting head, the exit gate and the critic from labels, before any reward."""

    removed_keys: ClassVar[Mapping[str, str]] = {
        "lr": "the rate is 2e-3",
        "samples_per_prompt": "one completion of a prompt is labelled; raise size",
    }

    size: PositiveInt = 512
    """Prompts whose full-depth completions are labelled."""
    steps: PositiveInt = 400
    """Optimizer steps of the head, and of the gate and the critic."""
    bias: float = Field(default=1.0, ge=0.0)
    """Nats towards going on, so that RL starts from deep."""
    labels: Literal["later", "best", "step"] = "later"
    """Ours, of the loss of all that follows or of the token's own; or Ouro's, of its own loss at
    the very next iteration."""
    probes: PositiveInt = 16
    """Tokens (or segments) of a completion that `later` labels."""


class DepthRl(Strict):
    """Policy-gradient steps on the halting head, from rollouts that run at the depths it chose."""

    removed_keys: ClassVar[Mapping[str, str]] = {
        "price_tokens": "iterations have a price, tokens have none",
        "epochs": "a step's decisions are passed over twice",
        "minibatches": "a pass has 4 optimizer steps",
        "clip": "the ratio of new to old probability counts up to 0.2 from 1",
        "forced": "every member of a group runs at the depths that the policy draws",
        "entropy": "a nat of entropy is worth 0.02 iterations at first, and nothing at the end",
        "kl": "nothing holds the head to its warm start",
        "max_grad_norm": "gradients are scaled down to a norm of 1",
    }

    steps: PositiveInt = 60
    """Rollout batches."""
    prompts_per_step: PositiveInt = 32
    """Prompts of a rollout batch."""
    samples_per_prompt: int = Field(default=8, ge=2)
    """Completions of a prompt, which are compared with each other."""
    price: tuple[PositiveFloat, PositiveFloat] = (0.1, 10.0)
    """Range of lambda: accuracy that a full-depth completion's iterations are worth."""
    lr: PositiveFloat = 1e-3
    """Learning rate of the head."""
    outcome: Literal["expected", "sampled"] = "sampled"
    """What a member is credited with: its reward as it was `sampled`, or less the luck of its
    answer's draws (`expected`), equal in the mean; for rewards that compare with one gold."""
    seeds: PositiveInt = 1
    """Heads trained from different draws; the first is exported."""

    @model_validator(mode="after")
    def _check(self) -> "DepthRl":
        low, high = self.price
        if low >= high:
            raise ValueError(f"price={list(self.price)} is no range: write [low, high]")
        return self


class JointPhase(Strict):
    """Tokens and depths by turns: GRPO on the language model at the depths that ran, then steps of
    the halting head on the new weights. Prompts, samples and the head's settings are those of `rl`,
    the rest of GRPO's are its defaults.

    It starts from the policy of the first seed alone. Its model is calibrated and exported, and
    stands in the report as `joint` beside the policies, which stay as they were.
    """

    removed_keys: ClassVar[Mapping[str, str]] = {
        "updates_per_step": "a rollout batch is one optimizer step",
        "backprop_iterations": "gradients pass all iterations that a token ran, or as many of the "
        "last as the model's own backprop_iterations says",
        "clip": "GRPO's own bound holds",
        "max_grad_norm": "gradients are scaled down to the norm that all training has",
        "micro_batch_rows": "a forward pass takes up to 8 completions",
    }

    rounds: PositiveInt = 2
    """Turns of both halves. Ours."""
    token_steps: PositiveInt = 20
    """Rollout batches of GRPO in a round, each used once. Ours."""
    head_steps: PositiveInt = 10
    """Rollout batches of the head in a round, as in `rl`. Ours."""
    lr: PositiveFloat = 3e-6
    """Learning rate of the language model. R1."""
    kl: float = Field(default=0.001, ge=0.0)
    """Weight of the divergence from the model that a round begins with. R1."""


class DepthCalibration(Strict):
    """Budgets to prices, by measuring on the first `size` prompts of `calibration`."""

    removed_keys: ClassVar[Mapping[str, str]] = {
        "points": "prices at 9 points of their range are measured",
        "tolerance": "a budget is met within 2 % of the full depth",
    }

    size: PositiveInt = 256
    """The first so many prompts of `calibration`."""
    rounds: PositiveInt = 4
    """Further measurements for each of `budgets` at most."""


Baseline = Literal[
    "fixed_whole", "permuted", "kl", "latent", "entropy", "second_order", "q_exit", "critic",
    "labels", "own_labels", "warm_start", "policy_sampled", "right", "request_depth", "static",
    "random", "oracle",
]  # fmt: skip


FOLLOWERS: tuple[Baseline, ...] = ("permuted", "random")
"""Baselines that borrow the policy's depths, and run where the policy does."""

CALIBRATED_PRICES = 13
"""Prices that a calibration measures at most, shares of the full depth evenly apart, before it
looks closer at budgets; ours."""

RIGHT_CANDIDATES, RIGHT_THRESHOLDS = 4, 6
"""Heads that the "right already?" rival is chosen from, and settings that each is measured at."""

SLIDER_BUDGETS = 5
"""Budgets, none of them calibrated, that a report tries the slider at."""


STATED_DEPTHS = (1.25, 1.5, 2.0)
"""Mean depths whose FLOPs the comparison's headline is stated at."""

COMPARED_COSTS = 9
"""Costs that every method is compared at, depth 1 and the full depth among them; ours."""

PLACEMENTS = 16
"""Settings of a method that one half of the prompts measures to place it at those costs; ours."""

PLACED_PROMPTS = 64
"""Prompts of a half, at most, that a method is placed on; ours."""


def compared_depths(max_depth: int) -> list[float]:
    """Mean depths whose FLOPs every method is placed at, between depth 1 and the full depth: the
    stated ones, and from the last of them on ones that rise by equal ratios.

    >>> [round(depth, 2) for depth in compared_depths(8)]
    [1.25, 1.5, 2.0, 2.64, 3.48, 4.59, 6.06]
    """
    stated = [depth for depth in STATED_DEPTHS if depth < max_depth]
    more = COMPARED_COSTS - 2 - len(stated)
    ratio = (max_depth / stated[-1]) ** (1 / (more + 1))
    return stated + [stated[-1] * ratio**number for number in range(1, more + 1)]


class DepthPareto(Strict):
    """The policy and its baselines on the first `size` prompts of `held_out`."""

    removed_keys: ClassVar[Mapping[str, str]] = {
        "points": "every method is measured at the same 9 costs",
    }

    size: int = Field(default=500, ge=LEAST_COMPARED)
    """The first so many prompts of `held_out`; either half of them places settings that the other
    one reports."""
    samples_per_prompt: PositiveInt = 1
    """Completions of a prompt at each setting."""
    baselines: list[Baseline] = Field(default_factory=lambda: list(get_args(Baseline)))
    """What the policy is compared with; default: all."""
    transfer: list[str] = Field(default_factory=list)
    """Prompts entries unlike those learned from: the policy against the fixed depths there too."""
