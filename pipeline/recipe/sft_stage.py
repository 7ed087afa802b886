"""`kind: sft`: supervised fine-tuning."""

from collections.abc import Mapping
from typing import ClassVar, Literal

from pydantic import PositiveFloat, PositiveInt, model_validator

from pipeline.recipe.section import Fraction, Strict, listed
from pipeline.recipe.stage_base import Input, Product, Training
from pipeline.recipe.stage_work import FILL, Trained, Work


class RandomDepths(Strict):
    """How many iterations each training sequence of a recurrent model runs."""

    kind: Literal["uniform", "log_normal_poisson"] = "uniform"
    """How depths are drawn: `uniform` from `low` to `high`, or as Huginn's (arXiv 2502.05171)."""
    low: PositiveInt = 1
    """The smallest number of iterations."""
    high: PositiveInt
    """The largest number of iterations."""
    mean: PositiveFloat = 4.0
    """Mean of `log_normal_poisson`, which alone has one."""
    segment: PositiveInt | Literal["batch"] | None = None
    """Tokens that share a depth; default: the whole sequence; batch: whatever goes through the
    model together, as Huginn's micro-batches, at the cost of the drawn depth alone."""
    prompt_depth: PositiveInt | None = None
    """Iterations of prompt positions but the last; default: as drawn."""

    @model_validator(mode="after")
    def _check(self) -> "RandomDepths":
        if self.low > self.high:
            raise ValueError(f"low={self.low} is over high={self.high}")
        if self.kind == "uniform" and "mean" in self.model_fields_set:
            raise ValueError("mean is for kind: log_normal_poisson; uniform has low and high")
        return self


class SftStage(Training):
    """Supervised fine-tuning on rows with a question and a completion."""

    product: ClassVar[Product] = "policy"

    kind: Literal["sft"]
    """Supervised fine-tuning."""
    rows: list[str] | str
    """What to learn: `PROMPTS.COLUMN` or the name of a reject stage, one or several."""
    epochs: PositiveFloat = 2
    """Passes over the rows. R1: 2 to 3."""
    lr: PositiveFloat = 5e-5
    """Peak learning rate. R1."""
    final_lr_fraction: Fraction = 0.1
    """Share of the peak rate that the cosine ends at. R1: from 5e-5 to 5e-6."""
    batch_rows: PositiveInt = 128
    """Rows per optimizer step, over all ranks. R1."""
    max_tokens: PositiveInt = 32768
    """Tokens of prompt and completion; longer rows are left out. R1."""
    packing: bool = False
    """Fill sequences with several rows."""
    shuffle: bool = True
    """false: rows in the order of `rows`, for a curriculum."""
    completion_only: bool = True
    """Loss on the completion only."""
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
    def rows_per_update(self) -> int | None:
        return self.batch_rows

    def work(self, rows: Mapping[str, float]) -> Work:
        count = sum(rows[i.name] for i in self.inputs() if i.role == "rows")
        tokens = count * self.epochs * FILL * self.max_tokens
        return Work(trained=(Trained(tokens=tokens, recomputed=self.gradient_checkpointing),))

    @property
    def batch_text(self) -> str:
        return f"{self.batch_rows} rows per optimizer step"

    @property
    def short_batch(self) -> str:
        return f"{self.batch_rows} rows"
