"""`kind: depth`: how many iterations each token deserves, part by part."""

from collections.abc import Iterator, Mapping
from typing import Any, ClassVar, Literal

from pydantic import (
    Field,
    PositiveFloat,
    PositiveInt,
    model_validator,
)

from pipeline.recipe.depth_parts import (
    CALIBRATED_PRICES,
    FOLLOWERS,
    PLACED_PROMPTS,
    PLACEMENTS,
    RIGHT_CANDIDATES,
    RIGHT_THRESHOLDS,
    SLIDER_BUDGETS,
    DepthCalibration,
    DepthPareto,
    DepthRl,
    HaltingWarmStart,
    HeadroomCheck,
    JointPhase,
    RandomDepthSft,
    compared_depths,
)
from pipeline.recipe.hardware import Hardware
from pipeline.recipe.model_source import ModelSource
from pipeline.recipe.section import Fraction, listed
from pipeline.recipe.stage_base import (
    BASE,
    ENGINE_KEYS,
    TRAINER_KEYS,
    Input,
    Product,
    StageBase,
)
from pipeline.recipe.stage_work import UNKNOWN, Lengths, Sampled, Trained, TrainerMemory, Work

HEADS, RIVAL, JOINT, CALIBRATION, COMPARISON = "4-", "4-right", "6-joint", "7-calibrate", "8-pareto"
"""Parts of the stage, by how their names begin."""


class DepthStage(StageBase):
    """How many iterations each token of a recurrent model deserves.

    The language model stays as it is after `random_depth`, unless there is a `joint` phase; a small
    halting head learns. Depth 1 to `max_depth`; a budget is mean iterations per completion token
    over `max_depth`.
    """

    product: ClassVar[Product] = "policy"
    uses_engines: ClassVar[bool] = True
    hardware_keys: ClassVar[tuple[str, ...]] = (*TRAINER_KEYS, *ENGINE_KEYS)
    late_keys: ClassVar[frozenset[str]] = frozenset({"pareto"})

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
    """The report. Where only this changes, all before it stands."""

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

    @property
    def part_completions(self) -> Mapping[str, int]:
        """Completions of each part but the SFT at random depths, by how its name begins; of those
        that learn from labels, the completions that these were made of."""
        headroom, warm, rl, calibrate = self.headroom, self.warm_start, self.rl, self.calibrate
        step = rl.prompts_per_step * rl.samples_per_prompt
        prices = CALIBRATED_PRICES + calibrate.rounds * len(self.budgets or [])
        right, joint = "right" in self.pareto.baselines, self.joint
        return {
            "2-headroom": headroom.size * headroom.samples_per_prompt * self.max_depth,
            "3-labels": warm.size,
            HEADS: warm.size,
            RIVAL: calibrate.size * RIGHT_CANDIDATES * RIGHT_THRESHOLDS if right else 0,
            "5-rl": rl.seeds * rl.steps * step,
            JOINT: joint.rounds * (joint.token_steps + joint.head_steps) * step if joint else 0,
            CALIBRATION: calibrate.size * prices,
            COMPARISON: self._compared() * self.pareto.samples_per_prompt,
        }

    def _rollouts(self) -> int:
        """Completions of all parts but the joint phase."""
        parts = self.part_completions
        return sum(count for name, count in parts.items() if name not in (HEADS, JOINT))

    @property
    def compared_methods(self) -> int:
        """Those that the report measures at their own costs, every seed's policy among them."""
        families = {*self.pareto.baselines} - {"fixed_whole", "oracle"}
        return len(families) + self.rl.seeds + (self.joint is not None)

    def _compared(self) -> int:
        """Prompts that the report runs, over all settings: fixed depths, methods at their costs and
        on the way to these, the slider, other prompts."""
        pareto, size = self.pareto, self.pareto.size
        costs = len(compared_depths(self.max_depth))
        ladders = 1 + ("fixed_whole" in pareto.baselines)
        methods = self.compared_methods
        placed = methods - len(set(pareto.baselines).intersection(FOLLOWERS))
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
        if hardware.shares_layers:
            yield (
                f"joint: hardware.sharding={hardware.sharding} gathers each layer on all ranks at "
                "once, which completions of different depths do not allow; set sharding: zero2"
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
