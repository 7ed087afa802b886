"""`kind: distill`: a smaller model learns from a larger one."""

from collections.abc import Mapping
from typing import ClassVar, Literal

from pydantic import PositiveFloat, PositiveInt, model_validator

from pipeline.recipe.model_source import ModelSource
from pipeline.recipe.section import listed
from pipeline.recipe.sft_stage import COSINE_END, RandomDepths
from pipeline.recipe.stage_base import Input, Product, Training
from pipeline.recipe.stage_work import UNKNOWN, Lengths, Rows, Sampled, Work


class DistillStage(Training):
    """Distillation into `student`: SFT on harvested rows (R1), or on-policy (GKD)."""

    product: ClassVar[Product] = "policy"
    removed_keys: ClassVar[Mapping[str, str]] = {
        **Training.removed_keys,
        "init": "a student starts from its own weights, named by student",
        "final_lr_fraction": COSINE_END,
    }
    shuffle: ClassVar[bool] = True
    random_depths: ClassVar[RandomDepths | None] = None

    kind: Literal["distill"]
    """A smaller model learns from a larger one."""
    teacher: str
    """The larger model: `base` or a stage."""
    student: ModelSource
    """Where the smaller model comes from."""
    rows: list[str] | str
    """What to learn: `PROMPTS.COLUMN` or the name of a reject stage, one or several."""
    mode: Literal["rows", "on_policy"] = "rows"
    """`rows`: SFT on the rows, as R1. `on_policy`: the teacher's distribution on what the student
    writes (GKD, arXiv 2306.13649)."""
    lr: PositiveFloat = 1e-4
    """Peak learning rate. R1, for 1.5B."""
    epochs: PositiveFloat = 2
    """Passes over the rows. R1: 2 to 3."""
    batch_rows: PositiveInt = 64
    """Rows per optimizer step, over all ranks. R1."""
    max_tokens: PositiveInt = 32768
    """Tokens of prompt and completion."""
    packing: bool = False
    """Fill sequences with several rows."""
    steps: PositiveInt | None = None
    """Optimizer steps of `on_policy`, which alone has them."""

    @model_validator(mode="after")
    def _check(self) -> "DistillStage":
        if self.steps is not None and self.mode == "rows":
            raise ValueError(f"steps={self.steps} is for mode: on_policy; rows go by epochs")
        if self.steps is None and self.mode == "on_policy":
            raise ValueError("steps is missing; on-policy distillation needs optimizer steps")
        return self

    def inputs(self) -> tuple[Input, ...]:
        return (
            Input.of("teacher", self.teacher),
            *(Input.of("rows", row) for row in listed(self.rows)),
        )

    @property
    def start(self) -> str | ModelSource:
        return self.student

    @property
    def own_models(self) -> Mapping[str, ModelSource]:
        return {"student": self.student}

    @property
    def rows_per_update(self) -> int | None:
        return self.batch_rows

    @property
    def longest_completion(self) -> int:
        return self.max_tokens

    def work(self, rows: Mapping[str, float], *, lengths: Lengths = UNKNOWN) -> Work:
        if self.steps is not None:
            return self._on_policy_work(self.steps, lengths)
        count = sum(rows[i.name] for i in self.inputs() if i.role == "rows")
        tokens = count * self.epochs * lengths.row_tokens(self.max_tokens)
        return Work(trained=(self.trained(tokens),))

    def _on_policy_work(self, steps: int, lengths: Lengths) -> Work:
        """The student samples, and the teacher reads what it wrote."""
        sampled = Sampled(
            sequences=steps * self.batch_rows, max_tokens=self.max_tokens, lengths=lengths
        )
        trained = self.trained(sampled.tokens, frozen=(self.teacher,))
        return Work(sampled=(sampled,), trained=(trained,))

    def training_rows(self, lengths: Lengths) -> Rows:
        """As those of sft."""
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
