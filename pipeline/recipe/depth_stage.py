"""`kind: depth`: how many iterations each token deserves, part by part."""

from collections.abc import Iterator, Mapping
from typing import Any, ClassVar, Literal, get_args

from pydantic import (
    Field,
    PositiveFloat,
    PositiveInt,
    model_validator,
)

from pipeline.recipe.hardware import Hardware
from pipeline.recipe.model_source import ModelSource
from pipeline.recipe.section import Fraction, Strict, listed
from pipeline.recipe.sft_stage import COSINE_END
from pipeline.recipe.stage_base import (
    BASE,
    ENGINE_KEYS,
    TRAINER_KEYS,
    Input,
    Product,
    StageBase,
)
from pipeline.recipe.stage_work import UNKNOWN, Lengths, Sampled, Trained, TrainerMemory, Work


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

    size: PositiveInt = 256
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
        "entropy": "a nat of entropy is worth 0.02 iterations at first, and nothing at the end",
        "kl": "nothing holds the head to its warm start",
        "max_grad_norm": "gradients are scaled down to a norm of 1",
    }

    steps: PositiveInt = 60
    """Rollout batches."""
    prompts_per_step: PositiveInt = 32
    """Prompts of a rollout batch."""
    samples_per_prompt: PositiveInt = 8
    """Completions of a prompt, which are compared with each other."""
    forced: int = Field(default=2, ge=0)
    """Members of a group at a fixed depth, full or shallow."""
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
        if self.samples_per_prompt - self.forced < 2:
            raise ValueError(
                f"samples_per_prompt={self.samples_per_prompt} leaves fewer than 2 members beside "
                f"forced={self.forced}: the policy is compared with itself"
            )
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

    size: int = Field(default=500, ge=2)
    """The first so many prompts of `held_out`; either half of them places settings that the other
    one reports."""
    samples_per_prompt: PositiveInt = 1
    """Completions of a prompt at each setting."""
    baselines: list[Baseline] = Field(default_factory=lambda: list(get_args(Baseline)))
    """What the policy is compared with; default: all."""
    transfer: list[str] = Field(default_factory=list)
    """Prompts entries unlike those learned from: the policy against the fixed depths there too."""


class DepthStage(StageBase):
    """How many iterations each token of a recurrent model deserves.

    The language model stays as it is after `random_depth`, unless there is a `joint` phase; a small
    halting head learns. Depth 1 to `max_depth`; a budget is mean iterations per completion token
    over `max_depth`.
    """

    product: ClassVar[Product] = "policy"
    uses_engines: ClassVar[bool] = True
    hardware_keys: ClassVar[tuple[str, ...]] = (*TRAINER_KEYS, *ENGINE_KEYS)

    kind: Literal["depth"]
    """How many iterations each token of a recurrent model deserves."""
    init: str = BASE
    """The recurrent model: `base` or a stage."""
    prompts: str
    """Prompts entry to learn from."""
    calibration: str
    """Prompts entry on which budgets are measured."""
    held_out: str
    """Prompts entry of the report."""
    reward: str = "answer"
    """Name under `rewards:`; 1 is correct."""
    rows: list[str] | str | None = None
    """Rows of the SFT at random depths, as in sft; default: `init` knows all depths already."""
    max_depth: int = Field(ge=2)
    """Iterations of a token at most, within the model's max_iterations."""
    prompt_depth: PositiveInt = 2
    """Iterations of prompt positions but the last."""
    segment: PositiveInt = 1
    """Tokens that share one decision."""
    max_tokens: PositiveInt
    """Tokens of a completion."""
    temperature: PositiveFloat = 1.0
    """Sampling temperature of every rollout."""
    budgets: list[Fraction] | None = Field(default=None, min_length=1)
    """The lowest, the middle one and the highest are the efforts low, medium and high; default: a
    tenth, a half and nine tenths of the way between what the policy's highest and lowest price
    spend."""
    halting_width: PositiveInt = 32
    """Hidden units of the halting head."""
    batch_rows: PositiveInt = 64
    """Completions per replay: memory only."""
    force: bool = False
    """Go on also where the headroom says no go."""
    random_depth: RandomDepthSft | None = None
    """The SFT on `rows`; default: its own defaults."""
    headroom: HeadroomCheck = HeadroomCheck()
    """Whether depth can pay here at all."""
    warm_start: HaltingWarmStart = HaltingWarmStart()
    """The head before any reward."""
    rl: DepthRl = DepthRl()
    """The head from rewards."""
    joint: JointPhase | None = None
    """Default: the language model stays frozen; {}: its defaults."""
    calibrate: DepthCalibration = DepthCalibration()
    """Budgets to prices."""
    pareto: DepthPareto = DepthPareto()
    """The report."""

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
        return self

    def inputs(self) -> tuple[Input, ...]:
        held_out = (self.held_out, *self.pareto.transfer)
        return (
            Input.of("init", self.init),
            Input.of("prompts", self.prompts),
            Input.of("calibration", self.calibration),
            *(Input.of("held_out", entry) for entry in held_out),
            *(Input.of("rows", row) for row in listed(self.rows or [])),
        )

    def reward_names(self) -> tuple[str, ...]:
        return (self.reward,)

    @property
    def start(self) -> str | ModelSource:
        return self.init

    @property
    def longest_completion(self) -> int:
        return self.max_tokens

    @property
    def needed_iterations(self) -> int | None:
        return self.max_depth

    @property
    def mean_iterations(self) -> int | None:
        """Half of `max_depth`, the mean of everything that is tried."""
        return (self.max_depth + 1) // 2

    def work(self, rows: Mapping[str, float], *, lengths: Lengths = UNKNOWN) -> Work:
        """Rollouts of all parts, the SFT at random depths and the joint phase's tokens; the head's
        own training is nothing."""
        sft = self.random_depth or RandomDepthSft()
        count = sum(rows[i.name] for i in self.inputs() if i.role == "rows")
        joint = self._joint_work(self.joint, lengths) if self.joint is not None else Work()
        return Work(
            sampled=(
                Sampled(sequences=self._rollouts(), max_tokens=self.max_tokens, lengths=lengths),
                *joint.sampled,
            ),
            trained=(Trained(tokens=count * lengths.row_tokens(sft.max_tokens)), *joint.trained),
        )

    def _rollouts(self) -> int:
        """Completions of all parts but the joint phase."""
        headroom, warm, rl, calibrate = self.headroom, self.warm_start, self.rl, self.calibrate
        prices = CALIBRATED_PRICES + calibrate.rounds * len(self.budgets or [])
        if "right" in self.pareto.baselines:
            prices += RIGHT_CANDIDATES * RIGHT_THRESHOLDS
        return (
            headroom.size * headroom.samples_per_prompt * self.max_depth
            + warm.size
            + rl.steps * rl.prompts_per_step * rl.samples_per_prompt * rl.seeds
            + calibrate.size * prices
            + self._compared() * self.pareto.samples_per_prompt
        )

    def _compared(self) -> int:
        """Prompts that the report runs, over all settings: fixed depths, methods at their costs and
        on the way to these, the slider, other prompts."""
        pareto, size = self.pareto, self.pareto.size
        costs = len(compared_depths(self.max_depth))
        ladders = 1 + ("fixed_whole" in pareto.baselines)
        families = {*pareto.baselines} - {"fixed_whole", "oracle"}
        methods = len(families) + self.rl.seeds + (self.joint is not None)
        placed = methods - len(families.intersection(FOLLOWERS))
        on_the_way = 2 * PLACEMENTS * min(PLACED_PROMPTS, size // 2)
        everywhere = ladders * self.max_depth + methods * costs + SLIDER_BUDGETS
        transfer = len(pareto.transfer) * (self.max_depth + costs * self.rl.seeds)
        return size * (everywhere + transfer) + placed * on_the_way

    def _joint_work(self, joint: JointPhase, lengths: Lengths) -> Work:
        """Rollouts of both halves, and the tokens' training; whole gradients are counted."""
        per_step = joint.rounds * self.rl.prompts_per_step * self.rl.samples_per_prompt
        steps = joint.token_steps + joint.head_steps
        tokens = Sampled(
            sequences=per_step * joint.token_steps, max_tokens=self.max_tokens, lengths=lengths
        )
        return Work(
            sampled=(
                Sampled(sequences=per_step * steps, max_tokens=self.max_tokens, lengths=lengths),
            ),
            trained=(
                Trained(
                    tokens=tokens.tokens + tokens.prompt_tokens,
                    frozen=(None,) if joint.kl else (),
                ),
            ),
        )

    @property
    def trainer_memory(self) -> TrainerMemory | None:
        """The joint phase's trainer; the head alone needs next to nothing."""
        return None if self.joint is None else TrainerMemory(reference=bool(self.joint.kl))

    @property
    def batch_text(self) -> str:
        rl = self.rl
        seeds = f", {rl.seeds} seeds" if rl.seeds > 1 else ""
        return (
            f"{rl.prompts_per_step} prompts x {rl.samples_per_prompt} samples, {rl.steps:,} "
            f"times{seeds}; depth 1 to {self.max_depth}"
        )

    @property
    def short_batch(self) -> str:
        return f"{self.rl.steps:,} x {self.rl.prompts_per_step} x {self.rl.samples_per_prompt}"

    def refused(self, hardware: Hardware) -> Iterator[str]:
        if self.joint is None:
            return
        rows = self.rl.prompts_per_step * self.rl.samples_per_prompt
        if rows % hardware.ranks:
            yield (
                f"joint: {self.rl.prompts_per_step} prompts x {self.rl.samples_per_prompt} samples "
                f"cannot be split over hardware.ranks={hardware.ranks}; set ranks to a divisor of "
                f"{rows}"
            )
        if hardware.sharding == "zero3" and hardware.ranks > 1:
            yield (
                "joint: hardware.sharding=zero3 gathers each layer on all ranks at once, which "
                "completions of different depths do not allow; set sharding: zero2"
            )

    def as_evaluation(self) -> Mapping[str, Any] | None:
        """One sample of each held-out prompt, drawn as the report's."""
        return {
            "kind": "evaluate",
            "prompts": self.held_out,
            "reward": self.reward,
            "samples_per_prompt": 1,
            "temperature": self.temperature,
            "top_p": 1.0,
            "max_tokens": self.max_tokens,
        }
