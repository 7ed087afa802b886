"""`kind: sft`: supervised fine-tuning."""

from collections.abc import Mapping
from typing import ClassVar, Literal

from pydantic import PositiveFloat, PositiveInt, model_validator

from pipeline.recipe.section import Strict, listed
from pipeline.recipe.stage_base import FurtherTraining, Input, Product
from pipeline.recipe.stage_work import UNKNOWN, Lengths, Rows, Work

COSINE_END = "the cosine ends at a tenth of the peak rate (R1)"


class RandomDepths(Strict):
    """How many iterations each training sequence of a recurrent model runs: each number from 1 to
    `high` alike."""

    removed_keys: ClassVar[Mapping[str, str]] = dict.fromkeys(
        ("kind", "low", "mean"), "each depth from 1 to `high` is drawn alike"
    )

    high: PositiveInt
    """The largest number of iterations."""
    segment: PositiveInt | Literal["batch"] | None = None
    """Tokens that share a depth; default: the whole sequence; batch: whatever goes through the
    model together, as Huginn's micro-batches, at the cost of the drawn depth alone."""
    prompt_depth: PositiveInt | None = None
    """Iterations of prompt positions but the last; default: as drawn."""


class SftStage(FurtherTraining):
    """Supervised fine-tuning on rows with a question and a completion."""

    product: ClassVar[Product] = "policy"
    removed_keys: ClassVar[Mapping[str, str]] = {
        **FurtherTraining.removed_keys,
        "final_lr_fraction": COSINE_END,
        "completion_only": "the loss is on the completion only",
    }

    kind: Literal["sft"]
    """Supervised fine-tuning."""
    rows: list[str] | str
    """What to learn: `PROMPTS.COLUMN` or the name of a reject stage, one or several."""
    epochs: PositiveFloat = 2
    """Passes over the rows. R1: 2 to 3."""
    lr: PositiveFloat = 5e-5
    """Peak learning rate. R1."""
    batch_rows: PositiveInt = 128
    """Rows per optimizer step, over all ranks. R1."""
    max_tokens: PositiveInt = 32768
    """Tokens of prompt and completion; longer rows are left out. R1."""
    packing: bool = False
    """Fill sequences with several rows."""
    shuffle: bool = True
    """false: rows in the order of `rows`, for a curriculum."""
    random_depths: RandomDepths | None = None
    """Depths of a recurrent model while it learns; default: its own number of iterations."""

    @model_validator(mode="after")
    def _check(self) -> "SftStage":
        if self.packing and self.random_depths is not None:
            raise ValueError(
                "random_depths and packing: true do not go together: set packing: false"
            )
        return self

    def inputs(self) -> tuple[Input, ...]:
        return (
            Input.of("init", self.init),
            *(Input.of("rows", row) for row in listed(self.rows)),
        )

    @property
    def goes_deeper(self) -> bool:
        return self.random_depths is not None and self.random_depths.high > 1

    @property
    def rows_per_update(self) -> int | None:
        return self.batch_rows

    def work(self, rows: Mapping[str, float], *, lengths: Lengths = UNKNOWN) -> Work:
        count = sum(rows[i.name] for i in self.inputs() if i.role == "rows")
        tokens = count * self.epochs * lengths.row_tokens(self.max_tokens)
        return Work(trained=(self.trained(tokens),))

    def training_rows(self, lengths: Lengths) -> Rows:
        """Padded to the longest of a pass; packed rows are full."""
        longest = lengths.longest_row_tokens(self.max_tokens)
        return Rows(
            longest=self.max_tokens if self.packing else longest,
            mean=self.max_tokens if self.packing else lengths.row_tokens(self.max_tokens),
        )

    @property
    def batch_text(self) -> str:
        return f"{self.batch_rows} rows per optimizer step"

    @property
    def short_batch(self) -> str:
        return f"{self.batch_rows} rows"
