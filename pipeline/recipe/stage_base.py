"""What every stage says about itself, and what every training stage has.

Each kind of stage is a file beside this one. The plan, the estimate, the plan's view and the run
ask a stage these questions; none of them knows the kinds.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, Literal

from pydantic import PositiveFloat, PositiveInt, model_validator

from pipeline.recipe.hardware import Hardware
from pipeline.recipe.lora import LATER, Lora
from pipeline.recipe.model_source import ModelSource
from pipeline.recipe.section import Strict
from pipeline.recipe.stage_work import UNKNOWN, Lengths, Rows, Trained, TrainerMemory, Work

BASE = "base"  # the recipe's model, as a name among the stages

Product = Literal["policy", "reward_model", "harvest", "report", "folder"]
"""What a stage makes: a model that generates, one that scores, rows, numbers, a model to hand on"""

SAMPLED_ROLES = ("prompts", "watch", "calibration", "held_out")
"""Roles of prompts whose completions are rewarded."""

ENGINE_KEYS = ("engine", "threads_per_engine", "gpus_per_engine")
TRAINER_KEYS = ("ranks", "sharding", "threads_per_rank")


@dataclass(frozen=True, kw_only=True)
class Input:
    """One thing a stage reads: a model, rows or prompts."""

    role: str  # init, rows, prompts, watch, policy, pairs, teacher, model, reward_model, ...
    name: str  # `base`, a stage, or a prompts entry
    column: str | None = None  # of a prompts entry, in `PROMPTS.COLUMN`

    @classmethod
    def of(cls, role: str, reference: str) -> "Input":
        """From `NAME` or `PROMPTS.COLUMN`, as a recipe has it."""
        name, _, column = reference.partition(".")
        return cls(role=role, name=name, column=column or None)

    @property
    def is_sampled(self) -> bool:
        """Whether it is prompts whose completions the stage's rewards judge."""
        return self.role in SAMPLED_ROLES


class StageBase(Strict):
    """What every stage is asked, with the answers of a stage that does nothing of the kind."""

    product: ClassVar[Product]
    uses_engines: ClassVar[bool] = False
    """Whether inference engines sample completions for it."""
    hardware_keys: ClassVar[tuple[str, ...]] = ()
    """Keys of `hardware:` that change its bits: how sums are split, never how much runs at once."""
    neutral_keys: ClassVar[frozenset[str]] = frozenset()
    """Keys of its own that leave its result as it is."""
    silent_keys: ClassVar[frozenset[str]] = frozenset()
    """Keys of its own that say nothing where they are null: such a stage is what it was before it
    had the key."""
    late_keys: ClassVar[frozenset[str]] = frozenset()
    """Keys of its own that only its last part reads: where they alone change, what it did before
    stands."""

    def inputs(self) -> tuple[Input, ...]:
        """Everything it reads, in the recipe's order."""
        raise NotImplementedError

    def reward_names(self) -> tuple[str, ...]:
        """Names under `rewards:` that it uses."""
        return ()

    @property
    def start(self) -> str | ModelSource:
        """Where the weights come from that it trains, samples or copies: `base`, a stage, or a
        source of its own."""
        return BASE

    @property
    def own_models(self) -> Mapping[str, ModelSource]:
        """Models that it brings along, by key."""
        return {}

    @property
    def rows_per_update(self) -> int | None:
        """Rows of one optimizer step over all ranks; None for a stage without a batch."""
        return None

    @property
    def rows_per_forward(self) -> int | None:
        """Rows of one forward pass of a rank at most; None for a stage without a batch."""
        return None

    @property
    def longest_completion(self) -> int:
        """Tokens of the longest completion that engines must be ready for; 0 for none."""
        return 0

    @property
    def samples_ahead(self) -> bool:
        """Whether engines sample for it while it trains."""
        return False

    @property
    def needed_iterations(self) -> int | None:
        """Iterations that its recurrent model must be able to run; None: any model will do."""
        return None

    @property
    def mean_iterations(self) -> int | None:
        """Iterations that a token of a recurrent model runs on average; None: the model's own."""
        return None

    def work(self, rows: Mapping[str, float], *, lengths: Lengths = UNKNOWN) -> Work:
        """What it computes, given the number of rows of each input by the input's name, and how
        long they are."""
        return Work()

    def training_rows(self, lengths: Lengths) -> Rows | None:
        """What goes through its trainer at once; None for a stage that trains nothing by rows."""
        return None

    def harvested_rows(self, rows: Mapping[str, float]) -> float:
        """About how many rows others find in what it made."""
        return 0.0

    @property
    def trainer_memory(self) -> TrainerMemory | None:
        """What its trainer holds; None for a stage that trains no language model."""
        return None

    @property
    def batch_text(self) -> str:
        """Its steps and batches in words; empty for a stage without."""
        return ""

    @property
    def short_batch(self) -> str:
        """The same in a table's cell."""
        return ""

    def refused(self, hardware: Hardware) -> Iterator[str]:
        """What of the hardware it cannot run on, in sentences."""
        yield from ()

    def as_evaluation(self) -> Mapping[str, Any] | None:
        """Content of an evaluate stage that measures a model as this one does; None: it measures
        none."""
        return None


class Training(StageBase):
    """What every stage that trains a language model has."""

    hardware_keys: ClassVar[tuple[str, ...]] = TRAINER_KEYS
    neutral_keys: ClassVar[frozenset[str]] = frozenset({"save_steps", "on_divergence"})
    removed_keys: ClassVar[Mapping[str, str]] = {
        "max_grad_norm": "gradients are scaled down to a norm of 1",
        "weight_decay": "weights do not decay",
        "warmup_fraction": "the rate rises over 3 % of the steps, in grpo at once",
        "adam_betas": "Adam's are 0.9 and 0.95",
    }

    lr: PositiveFloat
    """Peak learning rate."""
    micro_batch_rows: PositiveInt = 8
    """Rows per rank and forward pass: memory only, the step stays the same."""
    save_steps: PositiveInt = 20
    """Optimizer steps between checkpoints that a resumed run goes on from."""
    on_divergence: Literal["roll_back", "stop"] = "roll_back"
    """At a loss or gradient that is no number. `roll_back`: go back to the last checkpoint and on
    without that step, three times at most; `stop`: end the run."""
    gradient_checkpointing: bool = False
    """Compute activations again in the backward pass: less memory, a third more compute."""
    optimizer: Literal["adamw", "adamw_8bit"] = "adamw"
    """`adamw_8bit`: Adam's averages in 8 bits (bitsandbytes, arXiv 2110.02861), on GPUs."""
    lora: Lora | None = None
    """Train low-rank adapters in place of the weights; default: all weights. About ten times the
    rate of full training suits them."""

    @model_validator(mode="after")
    def _check_later(self) -> "Training":
        if self.lora is not None and self.lora.is_later and not self.goes_deeper:
            raise ValueError(
                f"lora.targets: {LATER} learns where tokens run several iterations: it is for sft "
                "with random_depths: {high: 2 or more}"
            )
        return self

    @property
    def goes_deeper(self) -> bool:
        """Whether each row surely runs more than one iteration of a recurrent model."""
        return False

    @property
    def rows_per_forward(self) -> int | None:
        return self.micro_batch_rows

    def trained(self, tokens: float, *, frozen: tuple[str | None, ...] = ()) -> Trained:
        """Its training on so many tokens, which frozen models read too."""
        return Trained(
            tokens=tokens,
            recomputed=self.gradient_checkpointing,
            adapted=self.lora is not None,
            frozen=frozen,
        )

    @property
    def trainer_memory(self) -> TrainerMemory | None:
        return TrainerMemory(adapter_rank=self.adapter_rank, eight_bit=self.has_8bit_adam)

    @property
    def has_8bit_adam(self) -> bool:
        """Whether Adam's averages are held in 8 bits."""
        return self.optimizer == "adamw_8bit"

    @property
    def adapter_rank(self) -> int | None:
        """Rank of the adapters that it trains; None: it trains the weights."""
        return None if self.lora is None else self.lora.rank


class FurtherTraining(Training):
    """What every stage has that trains a model of the run further."""

    init: str = BASE
    """The model to start from: `base` or the name of an earlier stage."""

    @property
    def start(self) -> str | ModelSource:
        return self.init
