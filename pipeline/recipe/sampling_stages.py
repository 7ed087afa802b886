"""Stages that sample or hand on: reject, evaluate, export."""

from typing import Literal

from pydantic import (
    Field,
    PositiveFloat,
    PositiveInt,
    model_validator,
)

from pipeline.recipe.section import Fraction, Strict
from pipeline.recipe.training_stages import StageBase

Effort = Literal["low", "medium", "high"]


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
