"""`prompts:`: where questions and their gold answers come from."""

from typing import Any

from pydantic import (
    Field,
    PositiveInt,
    PrivateAttr,
    model_validator,
)

from pipeline.recipe.section import Fraction, Interval, Strict, exactly_one


class PromptSource(Strict):
    """Where prompts come from: exactly one of `task`, `gym`, `hub`, `file`."""

    task: str | list[str] | None = (
        None  # our own generators (pipeline/prompts/tasks.py); a list is mixed
    )
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
        exactly_one(self, "task", "gym", "hub", "file")
        if (self.task or self.gym) and self.size is None:
            raise ValueError("size is missing: generated prompts need a number of rows")
        return self
