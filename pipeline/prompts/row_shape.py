"""Where a row has its question, what was said before it, and its golds.

| shape | told by | question | gold, where `columns` names none |
|---|---|---|---|
| column | `columns`, or a column `question` | its text | `answer` |
| template | the recipe's `template` | the template, filled in | `answer` |
| conversation | turns in that column, or in `messages`, ... | the last user turn | see below |
| preference | turns in `chosen`, and no question of its own | the last user turn | see below |
| Alpaca | `instruction` and `output` | the instruction, `input` below it | `output` |

The gold of a conversation is `answer`, verl's `reward_model.ground_truth`, SkyRL's
`reward_spec.ground_truth`, or the assistant's turn after the question.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from pipeline.prompts.conversations import COLUMNS, is_conversation, question_in, turns_of
from pipeline.prompts.prompt_error import PromptError
from pipeline.prompts.row_values import as_text
from pipeline.recipe.prompt_source import PromptSource, template_parts
from pipeline.recipe.recipe_errors import did_you_mean
from pipeline.records import Message

MESSAGES = "messages"  # the column of a prompt that holds its whole conversation
_RULE_GOLDS = ("reward_model.ground_truth", "reward_spec.ground_truth")
PREFERENCES = ("chosen", "rejected")
"""Columns of completions that a reward model learns from; a conversation ends with one."""
_ALPACA = ("instruction", "output")
_ASKED = (*COLUMNS, PREFERENCES[0])


@dataclass(frozen=True, kw_only=True)
class Shape:
    """Which columns of an entry's rows hold what; the first row decides for all."""

    question: str | None  # a column; None: the template, or Alpaca's columns
    answer: str | None  # a column; None: the last turn, or nothing
    has_answer: bool
    template: str | None = None
    conversation: bool = False  # whether the question's column holds turns

    @property
    def is_alpaca(self) -> bool:
        """Whether the question is Alpaca's instruction with its input."""
        return self.question is None and self.template is None


@dataclass(frozen=True, kw_only=True)
class Reading:
    """What the shape finds in one row."""

    question: str
    context: tuple[Message, ...] = ()
    answer: Any = None  # a value, or a list of several
    answer_column: str = "answer"  # in error sentences
    conversation: tuple[Message, ...] = ()
    columns: frozenset[str] = frozenset()  # that it used up


def shape_of(source: PromptSource, row: Mapping[str, Any], *, where: str) -> Shape:
    """The shape of an entry's rows, from the first one, which stands `where`."""
    question = source.columns.get("question")
    alpaca = False
    if question is None and source.template is None and "question" not in row:
        question = next((name for name in _ASKED if is_conversation(row.get(name))), None)
        alpaca = question is None and all(name in row for name in _ALPACA)
    if question is None and source.template is None and not alpaca:
        question = "question"
    conversation = (
        question is not None and has_value(row, question) and is_conversation(_walk(row, question))
    )
    answer = source.columns.get("answer")
    promised = answer is not None or source.answer_after is not None
    if answer is None:
        usual = ["answer", *(_RULE_GOLDS if conversation else []), *(["output"] * alpaca)]
        answer = next((name for name in usual if has_value(row, name)), None)
    has_answer = promised or answer is not None
    if conversation and not has_answer:
        has_answer = _conversation(row, str(question), where=where)[-1]["role"] == "assistant"
    if answer is None and promised and not conversation:
        answer = "answer"
    return Shape(
        question=question,
        answer=answer,
        has_answer=has_answer,
        template=source.template,
        conversation=conversation,
    )


def read_row(shape: Shape, row: Mapping[str, Any], *, where: str) -> Reading:
    """A row's question, context and golds.

    Raises PromptError naming the row, the column and the fix.
    """
    if shape.template is not None:
        question = _filled(shape.template, row, where=where)
        reading = Reading(question=question)
    elif shape.is_alpaca:
        reading = _alpaca(row, where=where)
    else:
        reading = _one_column(
            str(shape.question), row, conversation=shape.conversation, where=where
        )
    if shape.answer is not None:
        value = value_at(row, shape.answer, ours="answer", where=where)
        used = reading.columns | {shape.answer}
        return replace(reading, answer=value, answer_column=shape.answer, columns=used)
    extra = "a last turn of the assistant" if reading.answer is not None else "'answer'"
    if not shape.has_answer and (reading.answer is not None or "answer" in row):
        raise PromptError(
            f"{where}: the row has {extra} and the first row has none; "
            "give every row an answer, or none"
        )
    if shape.has_answer and reading.answer is None:
        raise PromptError(
            f"{where}: the conversation ends with the user's turn, and the first row's with an "
            "answer; give every row an answer, or none"
        )
    return reading


def value_at(row: Mapping[str, Any], path: str, *, ours: str, where: str) -> Any:
    """The value of a column, or inside of one by a dotted name such as
    `reward_model.ground_truth`.

    Raises PromptError with the columns that are there.
    """
    if not has_value(row, path):
        raise PromptError(_missing(ours, path, row, where=where))
    return _walk(row, path)


def has_value(row: Mapping[str, Any], path: str) -> bool:
    """Whether a row has a column, or a value inside of one."""
    try:
        _walk(row, path)
    except (KeyError, IndexError):
        return False
    return True


def _walk(row: Mapping[str, Any], path: str) -> Any:
    """Raises KeyError or IndexError where it leads nowhere."""
    if path in row:
        return row[path]
    value: Any = row
    for name in path.split("."):
        if isinstance(value, list) and name.isdecimal():
            value = value[int(name)]
        elif isinstance(value, Mapping):
            value = value[name]
        else:
            raise KeyError(path)
    return value


def _one_column(column: str, row: Mapping[str, Any], *, conversation: bool, where: str) -> Reading:
    value = value_at(row, column, ours="question", where=where)
    if conversation and not is_conversation(value):
        raise PromptError(
            f"{where}: column {column!r} holds no turns with role and content, and the first row's "
            "does; correct or remove the row"
        )
    if not conversation and isinstance(value, list | dict):
        kind = "a list" if isinstance(value, list) else "an object"
        raise PromptError(
            f"{where}: column {column!r} holds {kind}, not text or turns with role "
            "and content; write one row a question (of a table's columns, pandas writes "
            "rows with orient='records')"
        )
    if not conversation:
        return Reading(
            question=as_text(value, where=where, column=column), columns=frozenset({column})
        )
    turns = _conversation(row, column, where=where)
    context, question, answer = question_in(turns, where=where)
    read = {column, *(["completion"] if _completion(row, column) else [])}
    return Reading(
        question=question,
        context=_system(row, context),
        answer=answer,
        answer_column=column,
        conversation=_system(row, tuple(turns)),
        columns=frozenset(read.difference(PREFERENCES)),
    )


def _conversation(row: Mapping[str, Any], column: str, *, where: str) -> list[Message]:
    """All turns of a row; TRL's rows have the answer apart, in `completion`."""
    if has_tools(row.get("tools")):
        raise PromptError(
            f"{where}: column 'tools' is not read, so that a model would not know them; remove the "
            "column from the rows, or the row"
        )
    value = value_at(row, column, ours="question", where=where)
    turns = turns_of(value, where=f"{where}: column {column!r}")
    if _completion(row, column):
        if row.get("label") is False:
            raise PromptError(
                f"{where}: its label says that the completion is a bad one; remove the row, or put "
                "it beside a good one as chosen and rejected"
            )
        turns += turns_of(row["completion"], where=f"{where}: column 'completion'")
    if not turns:
        raise PromptError(f"{where}: column {column!r} has no turns; fill it or remove the row")
    return turns


def has_tools(value: Any) -> bool:
    """Whether a row's `tools` names any, as a list or as text."""
    return bool(value.strip() not in ("", "[]", "{}", "null") if isinstance(value, str) else value)


def _completion(row: Mapping[str, Any], column: str) -> bool:
    return column == "prompt" and is_conversation(row.get("completion"))


def _alpaca(row: Mapping[str, Any], *, where: str) -> Reading:
    instruction = as_text(
        value_at(row, "instruction", ours="question", where=where),
        where=where,
        column="instruction",
    )
    given = row.get("input")
    blank = given is None or (isinstance(given, str) and not given.strip())
    parts = [instruction, *([] if blank else [as_text(given, where=where, column="input")])]
    history = row.get("history") or []
    turns: list[Message] = []
    for pair in history:
        if not isinstance(pair, list) or len(pair) != 2:
            raise PromptError(
                f"{where}: column 'history' holds no pairs of a question and an answer; "
                "correct or remove the row"
            )
        for role, text in zip(("user", "assistant"), pair, strict=True):
            content = as_text(text, where=where, column="history")
            turns.append({"role": role, "content": content})
    return Reading(
        question="\n\n".join(parts),
        context=_system(row, tuple(turns)),
        columns=frozenset({"instruction", "input"}),
    )


def _system(row: Mapping[str, Any], context: tuple[Message, ...]) -> tuple[Message, ...]:
    """The context with the row's own `system` text before it, where it has none."""
    text = row.get("system")
    if not isinstance(text, str) or not text.strip():
        return context
    if any(turn["role"] == "system" for turn in context):
        return context
    return ({"role": "system", "content": text}, *context)


def _filled(template: str, row: Mapping[str, Any], *, where: str) -> str:
    """The template with the row's values; one that is null or empty leaves nothing."""
    texts: list[str] = []
    for literal, name in template_parts(template):
        texts.append(literal)
        if name is None:
            continue
        value = value_at(row, name, ours="template", where=where)
        blank = value is None or (isinstance(value, str) and not value.strip())
        texts.append("" if blank else _in_template(value, where=where, column=name))
    question = "".join(texts).rstrip()
    if not question.strip():
        raise PromptError(f"{where}: the template gives no text; fill its columns")
    return question


def _in_template(value: Any, *, where: str, column: str) -> str:
    """A value within a question; a list of numbers or texts as JSON: `[3, 5]`."""
    plain = isinstance(value, list) and all(type(item) in (int, float, str) for item in value)
    return (
        json.dumps(value, ensure_ascii=False)
        if plain
        else as_text(value, where=where, column=column)
    )


def _missing(ours: str, theirs: str, row: Mapping[str, Any], *, where: str) -> str:
    """The sentence about a column that a row lacks."""
    inner = [f"{k}.{i}" for k, v in row.items() if isinstance(v, Mapping) for i in v]
    guess = did_you_mean(theirs, [*row, *inner])
    key = "template" if ours == "template" else "columns"
    named = f"map it with columns: {{{ours}: NAME}}" if ours == theirs else f"correct {key}"
    lists = [
        name
        for name, value in row.items()
        if isinstance(value, list)
        and value
        and all(isinstance(v, Mapping) for v in value)
        and not is_conversation(value)
    ]
    if lists and ours == "question":
        guess = ""
        named = f"if {lists[0]!r} holds the rows, write that list alone into the file; {named}"
    return (
        f"{where}: column {theirs!r} is missing{guess}; the row has "
        f"{', '.join(row) or 'none'}; {named}, or complete the row"
    )
