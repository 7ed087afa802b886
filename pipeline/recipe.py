"""The whole recipe schema: what a user may write, with defaults, and nothing that loads torch.

Defaults marked R1 are DeepSeek-R1's (Nature 2025; arXiv 2501.12948v2); those marked "ours" fill
places where the paper is silent.
"""

from collections.abc import Iterator, Sequence
from difflib import get_close_matches
from typing import Annotated, Any, Literal, get_args

from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    PositiveFloat,
    PositiveInt,
    PrivateAttr,
    model_validator,
)

from rewards.routes import BY_ROW
from rewards.routes import by_row as by_row_args

Fraction = Annotated[float, Field(ge=0.0, le=1.0)]
Interval = tuple[int, int]
Sharding = Literal["none", "zero1", "zero2", "zero3"]
Effort = Literal["low", "medium", "high"]
Variant = Literal["grpo", "dapo", "dr_grpo", "gspo", "cispo"]


class Strict(BaseModel):
    """Base of every section: unknown keys are errors, values never change after loading."""

    model_config = ConfigDict(extra="forbid", frozen=True)


_RECURRENT_ONLY = {"prelude", "coda", "iterations", "max_iterations"}


class ScratchModel(Strict):
    """A model with random weights and a character-level tokenizer: Llama-type with `layers`,
    recurrent with `core`, the layers that are iterated."""

    hidden: PositiveInt
    layers: PositiveInt | None = None
    core: PositiveInt | None = None
    prelude: int = Field(default=1, ge=0)
    coda: int = Field(default=1, ge=0)
    iterations: PositiveInt = 4  # of the core, where nothing else is asked
    max_iterations: PositiveInt = 8
    heads: PositiveInt
    kv_heads: PositiveInt | None = None  # default: heads
    mlp: PositiveInt
    max_position: PositiveInt = 1024
    vocabulary: Literal["chars"] = "chars"

    @model_validator(mode="after")
    def _check(self) -> "ScratchModel":
        _exactly_one(self, "layers", "core")
        stray = _RECURRENT_ONLY & self.model_fields_set
        if self.layers is not None and stray:
            raise ValueError(f"{min(stray)} is for recurrent models; give core instead of layers")
        if self.iterations > self.max_iterations:
            raise ValueError(
                f"iterations={self.iterations} is over max_iterations={self.max_iterations}"
            )
        if self.hidden % self.heads or (self.hidden // self.heads) % 32:
            raise ValueError(
                f"hidden={self.hidden} over heads={self.heads} gives a head size of "
                f"{self.hidden / self.heads:g}; vLLM wants a multiple of 32"
            )
        if self.heads % (self.kv_heads or self.heads):
            raise ValueError(f"kv_heads={self.kv_heads} must divide heads={self.heads}")
        return self


class ModelSource(Strict):
    """Where a model comes from: exactly one of `path`, `hub`, `gguf`, `scratch`."""

    path: str | None = None  # a folder with config.json, weights and tokenizer
    hub: str | None = None  # a Hugging Face hub id
    gguf: str | None = None  # a GGUF file, or `package:NAME` for one inside a Python package
    scratch: ScratchModel | None = None
    split: tuple[int, int, int] | None = None
    """Makes a dense model recurrent: its layers before, in and after the core that is iterated."""
    max_iterations: PositiveInt | None = None  # of a model that `split` makes; default: 8
    chat_template: str | None = None  # a Jinja template in place of the tokenizer's
    dtype: Literal["float32", "bfloat16"] = "float32"

    @model_validator(mode="after")
    def _one(self) -> "ModelSource":
        _exactly_one(self, "path", "hub", "gguf", "scratch")
        if self.split is not None and (self.scratch is not None or min(self.split) < 0):
            raise ValueError(
                f"split={list(self.split)} is [prelude, core, coda] layers of a dense model; "
                "a scratch model has its own"
            )
        if self.split is not None and not self.split[1]:
            raise ValueError(f"split={list(self.split)} leaves the core without a layer")
        if self.max_iterations is not None and self.split is None:
            raise ValueError("max_iterations is for a model that split makes recurrent")
        return self


class PromptSource(Strict):
    """Where prompts come from: exactly one of `task`, `gym`, `hub`, `file`."""

    task: str | list[str] | None = None  # our own generators (pipeline/tasks.py); a list is mixed
    gym: str | None = None  # a reasoning-gym task
    hub: str | None = None  # a Hugging Face data set id
    file: str | None = None  # JSON lines
    size: PositiveInt | None = None  # rows; required for task and gym
    split: str = "train"
    seed: int | None = None  # default: the recipe's
    difficulty: Interval | None = None  # task: reasoning steps, inclusive
    distractors: Interval = (0, 0)  # task: irrelevant lines, inclusive
    care: tuple[Fraction, Fraction] = (1.0, 1.0)  # task: share of steps written in `worked`
    columns: dict[str, str] = Field(default_factory=dict)  # ours -> theirs: question, answer, ...
    options: dict[str, Any] = Field(default_factory=dict)  # gym: the task's own configuration
    system: str | None = None  # a system message before each question
    answer_after: str | None = None  # the answer is what follows this mark ("####" in GSM8K)
    source_column: str | None = None  # rewards go by this column of a row, not by the entry's name
    _routes: dict[str, tuple[str, ...]] = PrivateAttr(default_factory=dict)  # set by Recipe

    @property
    def routes(self) -> dict[str, tuple[str, ...]]:
        """By reward: the values of `source_column` that it has routes for."""
        return self._routes

    @property
    def source_key(self) -> str:
        """The name of `source_column` among a prompt's columns."""
        ours = {theirs: ours for ours, theirs in self.columns.items()}
        return ours.get(self.source_column or "", self.source_column or "")

    @model_validator(mode="after")
    def _one(self) -> "PromptSource":
        _exactly_one(self, "task", "gym", "hub", "file")
        if (self.task or self.gym) and self.size is None:
            raise ValueError("size is missing: generated prompts need a number of rows")
        return self


class Judge(Strict):
    """What computes a reward, and its keyword arguments. A bare text stands for `use`."""

    use: str  # `builtin:NAME`, `path/file.py:fn` or `package.module:fn`
    args: dict[str, Any] = Field(default_factory=dict)

    @model_validator(mode="before")
    @classmethod
    def _from_text(cls, given: Any) -> Any:
        return {"use": given} if isinstance(given, str) else given


class RewardSpec(Strict):
    """One named reward: its weight in the sum, and one judge, or one per source.

    A source is a prompts entry, or a value of its `source_column`. `{gsm8k: builtin:math_answer,
    mbpp: ...}` is short for `{by_source: {...}}`.
    """

    use: str | None = None  # as in Judge
    by_source: dict[str, Judge] | None = None  # by the source that a sample comes from
    weight: float = 1.0
    args: dict[str, Any] = Field(default_factory=dict)
    _columns: dict[str, str] = PrivateAttr(default_factory=dict)  # by prompts entry; set by Recipe

    @model_validator(mode="before")
    @classmethod
    def _from_short(cls, given: Any) -> Any:
        return spelled_out(given)

    @model_validator(mode="after")
    def _one(self) -> "RewardSpec":
        _exactly_one(self, "use", "by_source")
        if self.by_source is not None and self.args:
            raise ValueError("args stand beside each use of by_source: {ENTRY: {use: ..., args}}")
        return self

    def routes(self) -> Sequence[tuple[str | None, Judge]]:
        """Every judge with its source as written; None for one that judges all."""
        if self.use is not None:
            return [(None, Judge(use=self.use, args=self.args))]
        return list((self.by_source or {}).items())

    def judges(self) -> Sequence[tuple[str | None, Judge]]:
        """Every judge with its prompts entry; one that routes for entries with `source_column`."""
        if self.use is not None:
            return self.routes()
        routes = {source: (judge.use, judge.args) for source, judge in self.routes() if source}
        by_row = [
            (entry, Judge(use=BY_ROW, args=by_row_args(column, routes)))
            for entry, column in self._columns.items()
        ]
        return [*(pair for pair in self.routes() if pair[0] not in self._columns), *by_row]

    def judge(self, source: str) -> Judge | None:
        """What judges samples of a prompts entry; None when nothing does."""
        return dict(self.judges()).get(None if self.use is not None else source)

    def judges_of(self, entry: str) -> list[Judge]:
        """All that may judge samples of a prompts entry."""
        if entry in self._columns and self.use is None:
            return [judge for _, judge in self.routes()]
        judge = self.judge(entry)
        return [] if judge is None else [judge]


def spelled_out(given: Any) -> Any:
    """A reward's short form, a mapping of sources to judges, as `by_source`."""
    known = ("use", "by_source", "weight", "args")
    if not isinstance(given, dict) or {"use", "by_source", "args"} & set(given):
        return given
    routes = {key: value for key, value in given.items() if key != "weight"}
    misspelt = any(get_close_matches(str(key), known, n=1) for key in routes)
    judges = all(isinstance(value, str) or "use" in (value or ()) for value in routes.values())
    if not routes or misspelt or not judges:
        return given
    return {**{key: given[key] for key in given if key == "weight"}, "by_source": routes}


class ModelReward(Strict):
    """A reward-model stage as a reward, in the last fraction of the steps only (R1: 400/1,700)."""

    model: str
    weight: float = 1.0
    last_fraction: Fraction = 0.25


class Watch(Strict):
    """Held-out accuracy during training."""

    prompts: str
    every_steps: PositiveInt = 10
    size: PositiveInt = 200


class StageBase(Strict):
    """What every stage has. `pipeline.recipe.inputs_of` lists what it reads."""


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


class Readable(Strict):
    """R1's readability filters on harvested rows; None switches one off."""

    language: str | None = "en"
    min_language_share: Fraction = 0.9  # ours
    max_paragraph_chars: PositiveInt | None = 2000  # ours
    code_blocks: bool = False  # keep rows with code blocks in the reasoning


class RejectStage(StageBase):
    """Rejection sampling: keep completions that are correct, readable and new."""

    kind: Literal["reject"]
    policy: str
    prompts: str
    rewards: list[str]  # each must reach `threshold`
    threshold: float = 1.0
    samples_per_prompt: PositiveInt = 4  # ours
    keep_per_prompt: PositiveInt = 1  # ours
    temperature: PositiveFloat = 1.0  # ours
    top_p: float = Field(default=1.0, gt=0.0, le=1.0)
    max_tokens: PositiveInt = 32768
    size: PositiveInt | None = None  # use the first `size` prompts
    readable: Readable = Readable()


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


class EvaluateStage(StageBase):
    """pass@1 and pass@k with 95 % confidence intervals on held-out prompts.

    Recurrent models run at their own number of iterations, or at one of `effort`, `budget` (both
    of a depth stage's calibration) and `depth`.
    """

    kind: Literal["evaluate"]
    models: list[str]
    prompts: str
    reward: str = "answer"
    samples_per_prompt: PositiveInt = 4  # ours; R1: 4 to 64 by test size
    pass_k: list[PositiveInt] = Field(default_factory=lambda: [1])
    temperature: float = Field(default=0.6, ge=0.0)  # R1
    top_p: float = Field(default=0.95, gt=0.0, le=1.0)  # R1
    max_tokens: PositiveInt = 32768  # R1
    effort: Effort | None = None
    budget: float | None = Field(default=None, gt=0.0, le=1.0)
    depth: PositiveInt | None = None

    @model_validator(mode="after")
    def _check(self) -> "EvaluateStage":
        given = {"effort": self.effort, "budget": self.budget, "depth": self.depth}
        asked = [key for key, value in given.items() if value is not None]
        if len(asked) > 1:
            raise ValueError(f"give one of {' and '.join(asked)}: each decides the depth")
        if max(self.pass_k) > self.samples_per_prompt:
            raise ValueError(
                f"pass_k={max(self.pass_k)} needs at least as many samples_per_prompt "
                f"(now {self.samples_per_prompt})"
            )
        return self


class ExportStage(StageBase):
    """A folder to hand on: safetensors, tokenizer, chat template, model card."""

    kind: Literal["export"]
    model: str


Stage = Annotated[
    SftStage
    | GrpoStage
    | RejectStage
    | RewardModelStage
    | DistillStage
    | DepthStage
    | EvaluateStage
    | ExportStage,
    Field(discriminator="kind"),
]


class Hardware(Strict):
    """What the run may use. One default fits a laptop; clusters state their own."""

    device: Literal["auto", "cpu", "cuda"] = "auto"
    ranks: PositiveInt = 1  # trainer processes
    sharding: Sharding = "none"  # DeepSpeed ZeRO stage of the trainer
    threads_per_rank: PositiveInt = 1  # CPU threads of a trainer process
    engines: PositiveInt = 1
    engine: Literal["vllm", "native"] = "vllm"  # native: our reference, recurrent models only
    threads_per_engine: PositiveInt = 1
    gpus_per_engine: PositiveInt = 1  # tensor parallel size, on GPUs
    gpu_memory_fraction: Fraction = 0.85  # of each engine's GPU
    max_sequences_per_engine: PositiveInt = 256
    kv_cache_gib: PositiveFloat = 1.0  # on CPU
    verifier_workers: PositiveInt = 1
    ray_address: str | None = None  # an existing cluster; default: start one here
    dollars_per_gpu_hour: float | None = None


class Recipe(Strict):
    """A whole run. `pipeline.load.load_recipe` makes one from YAML."""

    name: str = Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$")
    seed: int = 7
    model: ModelSource
    prompts: dict[str, PromptSource] = Field(default_factory=dict)
    rewards: dict[str, RewardSpec] = Field(default_factory=dict)
    stages: dict[str, Stage]
    hardware: Hardware = Hardware()
    report_to: list[Literal["tensorboard", "wandb", "trackio"]] = Field(default_factory=list)

    @model_validator(mode="after")
    def _routed(self) -> "Recipe":
        """Tell rewards which entries go by a column, and those entries which values have routes."""
        by_row = {n: s for n, s in self.prompts.items() if s.source_column is not None}
        for reward in self.rewards.values():
            reward._columns = {name: source.source_key for name, source in by_row.items()}
        for stage in self.stages.values():
            sampled = {entry for role, entry in inputs_of(stage) if role in SAMPLED_ROLES}
            for name in rewards_of(stage):
                routes = self.rewards[name].by_source if name in self.rewards else None
                for entry in sampled & set(by_row) if routes else ():
                    by_row[entry]._routes[name] = tuple(routes or ())
        return self


SAMPLED_ROLES = ("prompts", "watch", "calibration", "held_out")
"""Inputs whose completions are rewarded."""


def inputs_of(stage: Stage) -> Iterator[tuple[str, str]]:
    """(role, reference) of everything a stage reads; a reference names `base`, a stage or prompts.

    Row references keep their `PROMPTS.COLUMN` form.
    """
    match stage:
        case SftStage():
            yield "init", stage.init
            yield from (("rows", row) for row in listed(stage.rows))
        case GrpoStage():
            yield "init", stage.init
            yield "prompts", stage.prompts
            for reward in stage.rewards:
                if isinstance(reward, ModelReward):
                    yield "reward_model", reward.model
        case RejectStage():
            yield "policy", stage.policy
            yield "prompts", stage.prompts
        case RewardModelStage():
            yield "init", stage.init
            yield "pairs", stage.pairs
        case DistillStage():
            yield "teacher", stage.teacher
            yield from (("rows", row) for row in listed(stage.rows))
        case DepthStage():
            yield "init", stage.init
            yield "prompts", stage.prompts
            yield "calibration", stage.calibration
            yield "held_out", stage.held_out
            for entry in stage.pareto.transfer:
                yield "held_out", entry
            yield from (("rows", row) for row in listed(stage.rows or []))
        case EvaluateStage():
            yield from (("model", model) for model in stage.models)
            yield "prompts", stage.prompts
        case ExportStage():
            yield "model", stage.model
    if isinstance(stage, GrpoStage) and stage.watch:
        yield "watch", stage.watch.prompts


def rewards_of(stage: Stage) -> list[str]:
    """Names under `rewards:` that a stage uses."""
    match stage:
        case GrpoStage():
            return [r for r in stage.rewards if isinstance(r, str)]
        case RejectStage():
            return list(stage.rewards)
        case EvaluateStage() | DepthStage():
            return [stage.reward]
        case _:
            return []


def listed(value: list[str] | str) -> list[str]:
    """One or several names, as a list."""
    return [value] if isinstance(value, str) else value


def _exactly_one(section: BaseModel, *keys: str) -> None:
    given = [key for key in keys if key in section.model_fields_set]
    if len(given) != 1:
        found = f"found {', '.join(given)}" if given else "found none"
        raise ValueError(f"give exactly one of {', '.join(keys)}; {found}")
