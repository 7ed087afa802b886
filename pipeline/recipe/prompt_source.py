"""`prompts:`: where questions and their gold answers come from."""

from typing import Any, Literal

from pydantic import (
    Field,
    PositiveInt,
    model_validator,
)

from pipeline.recipe.section import Fraction, Interval, Strict, exactly_one


class PromptSource(Strict):
    """Where prompts come from: exactly one of `task`, `gym`, `hub`, `file`."""

    task: str | list[str] | None = None
    """One of our own generators (pipeline/prompts/tasks.py); a list is mixed."""
    gym: str | None = None
    """A reasoning-gym task."""
    hub: str | None = None
    """A Hugging Face data set id, `ID` or `ID:CONFIG`."""
    file: str | None = None
    """JSON lines: one object with `question` and perhaps `answer` a line."""
    size: PositiveInt | None = None
    """Rows: the first so many; required for task and gym."""
    split: str = "train"
    """Part of a task, a gym task (both: train, test) or a hub data set."""
    seed: int | None = None
    """Of a task or gym task; default: the recipe's."""
    difficulty: Interval | None = None
    """Of a task: reasoning steps, both ends included."""
    distractors: Interval = (0, 0)
    """Of a task: irrelevant lines, both ends included."""
    care: tuple[Fraction, Fraction] = (1.0, 1.0)
    """Of a task: share of the steps written in `worked`, both ends included."""
    columns: dict[str, str] = Field(default_factory=dict)
    """Our names for theirs: `{question: THEIRS, answer: THEIRS, ...}`."""
    options: dict[str, Any] = Field(default_factory=dict)
    """A gym task's own configuration."""
    system: str | None = None
    """A system message before each question."""
    answer_after: str | None = None
    """The answer is what follows this mark ("####" in GSM8K); the text before is `worked`."""
    too_long: Literal["refuse", "drop"] = "refuse"
    """Prompts that leave no room for `max_tokens` in the model's positions: `refuse` ends the run
    before its first stage, `drop` leaves them out and says how many."""
    decontaminate: list[str] = Field(default_factory=list)
    """Entries or files whose questions are left out of this one: equal ones, whatever their case,
    spacing and punctuation, and those with 13 words in a row in common (GPT-3, appendix C)."""
    source_column: str | None = None
    """Rewards go by this column of a row, not by the entry's name."""

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
