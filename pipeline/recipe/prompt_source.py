"""`prompts:`: where questions and their gold answers come from."""

from collections.abc import Iterator, Mapping
from string import Formatter
from typing import Annotated, Any, Literal

from pydantic import (
    Field,
    PositiveInt,
    model_validator,
)

from pipeline.recipe.section import Fraction, Interval, Strict, exactly_one
from pipeline.records import Message

SOURCES = ("task", "gym", "hub", "file")
GENERATED = ("task", "gym")  # sources whose rows are made, so many and in two splits

ONLY_FOR: Mapping[str, tuple[str, ...]] = {
    "difficulty": ("task",),
    "distractors": ("task",),
    "care": ("task",),
    "options": ("gym",),
    "columns": ("hub", "file"),
    "template": ("hub", "file"),
    "answer_after": ("gym", "hub", "file"),
    "source_column": ("hub", "file"),
    "split": ("task", "gym", "hub"),
}
"""Keys that only some sources know."""


class Example(Strict):
    """A question and its answer, shown before another question."""

    question: Annotated[str, Field(min_length=1)]
    """The question, put as the entry's own are."""
    answer: Annotated[str, Field(min_length=1)]
    """All that the model would write, reasoning included."""


class PromptSource(Strict):
    """Where prompts come from: exactly one of `task`, `gym`, `hub`, `file`."""

    task: str | list[str] | None = None
    """One of our own generators (pipeline/prompts/tasks.py); a list is mixed."""
    gym: str | None = None
    """A reasoning-gym task."""
    hub: str | None = None
    """A Hugging Face data set, `ID` or `ID:CONFIG`, or a folder that holds one."""
    file: str | list[str] | None = None
    """Rows with `question` and perhaps `answer`, as JSON, CSV, parquet or Arrow: a file, a pattern
    with `*`, or a list of them."""
    size: PositiveInt | None = None
    """Rows: the first so many; required for task and gym."""
    split: str = "train"
    """Part of a task, a gym task (both: train, test) or a hub data set."""
    seed: int | None = None
    """Draws the rows of a task or gym task; default: the recipe's seed."""
    difficulty: Interval | None = None
    """Reasoning steps of a task's question, both ends included."""
    distractors: Interval = (0, 0)
    """Irrelevant lines of a task's question, both ends included."""
    care: tuple[Fraction, Fraction] = (1.0, 1.0)
    """Share of a task's steps that are written in `worked`, both ends included."""
    columns: dict[str, str] = Field(default_factory=dict)
    """Our names for theirs: `{question: THEIRS, answer: THEIRS, ...}`; `OUTER.INNER` is a value
    inside of a column. A list as answer holds several that are right."""
    template: str | None = None
    """The question from several columns: `"{instruction}\\n\\n{input}"`; `{{` is a brace."""
    options: dict[str, Any] = Field(default_factory=dict)
    """A gym task's own configuration."""
    system: str | None = None
    """A system message before each question."""
    examples: list[Example] = Field(default_factory=list)
    """Turns before each question: `[{question: ..., answer: ...}, ...]`."""
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

    @property
    def preface(self) -> tuple[Message, ...]:
        """What stands before each question."""
        turns = [("system", self.system)] if self.system else []
        for example in self.examples:
            turns += [("user", example.question), ("assistant", example.answer)]
        return tuple({"role": role, "content": content} for role, content in turns)

    @model_validator(mode="after")
    def _one(self) -> "PromptSource":
        exactly_one(self, *SOURCES)
        if (self.task or self.gym) and self.size is None:
            raise ValueError("size is missing: generated prompts need a number of rows")
        if self.template is not None:
            if "question" in self.columns:
                raise ValueError("template makes the question; remove columns.question")
            if not any(name for _, name in template_parts(self.template)):
                raise ValueError("template names no column; write one in braces: {NAME}")
        return self


def template_parts(template: str) -> Iterator[tuple[str, str | None]]:
    """(text, the column after it, None at the end) of a template.

    >>> list(template_parts("Q: {question}!"))
    [('Q: ', 'question'), ('!', None)]

    Raises ValueError for a brace that names no column.
    """
    try:
        parts = list(Formatter().parse(template))
    except ValueError as error:
        raise ValueError(f"template: {error}; a brace itself is written twice") from error
    for text, name, form, conversion in parts:
        if name is not None and (form or conversion or not name.strip()):
            raise ValueError(
                f"template: {{{name}{'!' + conversion if conversion else ''}"
                f"{':' + form if form else ''}}} names no column; a brace itself is written twice"
            )
        yield text, name
