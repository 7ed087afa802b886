"""Rows of files and data sets -> Prompts, refused at the first that is wrong."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from types import MappingProxyType
from typing import Any, cast

from pipeline.prompts.conversations import (
    COLUMNS,
    in_own_form,
    is_conversation,
    question_in,
    turns_of,
)
from pipeline.prompts.prompt_error import PromptError
from pipeline.prompts.row_limits import check_row
from pipeline.prompts.row_shape import (
    MESSAGES,
    PREFERENCES,
    Reading,
    Shape,
    read_row,
    shape_of,
    value_at,
)
from pipeline.prompts.row_values import as_text, json_safe, split_at_mark
from pipeline.recipe.prompt_source import PromptSource
from pipeline.recipe.recipe_errors import did_you_mean
from pipeline.records import Prompt

Routes = Mapping[str, Sequence[str]]
"""By reward: the values of `source_column` that it has a route for."""

NO_ROUTES: Routes = MappingProxyType({})

MAX_QUESTION = 2**22
"""Characters of a question. Ours: over what any model reads."""


def prompts_of_rows(
    source: PromptSource,
    rows: Iterable[tuple[str, dict[str, Any]]],
    routes: Routes,
    *,
    origin: str,
) -> Iterator[Prompt]:
    """Prompts of (where it stands, row). The first row decides what holds question and gold; all
    or none have a gold."""
    count, shape = 0, None
    asked = source.columns.get("question", COLUMNS[0])
    turns_in = {asked, *COLUMNS, *PREFERENCES, "completion"}
    for where, row in rows:
        if count == source.size:
            return
        check_row(row, where=where)
        row |= {name: in_own_form(row[name]) for name in turns_in if name in row}
        shape = shape or shape_of(source, row, where=where)
        yield _from_row(source, shape, row, routes, where=where)
        count += 1
    if count == 0:
        raise PromptError(f"{origin} has no rows; give it at least one")
    if source.size is not None and count < source.size:
        raise PromptError(
            f"size asks for {source.size} rows and {origin} has {count}; lower size or leave it out"
        )


def _from_row(
    source: PromptSource, shape: Shape, row: Mapping[str, Any], routes: Routes, *, where: str
) -> Prompt:
    mapped = {k: v for k, v in source.columns.items() if k not in ("question", "answer")}
    values = {k: value_at(row, v, ours=k, where=where) for k, v in mapped.items()}
    reading = read_row(shape, row, where=where)
    if source.system is not None and any(t["role"] == "system" for t in reading.context):
        raise PromptError(
            f"{where}: the row has a system message of its own, and the recipe another; "
            "remove system from the recipe, or the message from the rows"
        )
    if len(reading.question) > MAX_QUESTION:
        raise PromptError(
            f"{where}: the question has {len(reading.question):,} characters, and no model reads "
            f"over {MAX_QUESTION:,}; shorten it or remove the row"
        )
    golds, worked = _golds(source, reading, where=where) if shape.has_answer else ((), {})
    used = {*reading.columns, *mapped.values()}
    others = {theirs: value for theirs, value in row.items() if theirs not in used}
    others |= _preferred(others, where=where)
    turns = {MESSAGES: reading.conversation} if reading.conversation else {}
    columns = cast(dict[str, Any], json_safe({**worked, **turns, **others, **values}))
    if source.source_column is not None:
        _check_route(source, columns, routes, where=where)
    return Prompt(
        id="",
        question=reading.question,
        answer=golds[0] if golds else None,
        columns=columns,
        place=where,
        context=reading.context,
        golds=golds if len(golds) > 1 else (),
    )


def _golds(
    source: PromptSource, reading: Reading, *, where: str
) -> tuple[tuple[str, ...], dict[str, str]]:
    """(every acceptable gold, the reasoning before the first one's mark by the column's name)."""
    several = reading.answer if isinstance(reading.answer, list) else [reading.answer]
    column = reading.answer_column
    if not several:
        raise PromptError(f"{where}: column {column!r} is an empty list; fill it or remove the row")
    texts = [as_text(value, where=where, column=column) for value in several]
    if source.answer_after is None:
        return tuple(dict.fromkeys(texts)), {}
    parts = [split_at_mark(text, source.answer_after, where=where) for text in texts]
    return tuple(dict.fromkeys(gold for _, gold in parts)), {"worked": parts[0][0]}


def _preferred(columns: Mapping[str, Any], *, where: str) -> dict[str, str]:
    """Chosen and rejected completions that are stored as turns: whole conversations, or the answer
    alone where the prompt stands apart."""
    texts = {}
    for name in PREFERENCES:
        value = columns.get(name)
        value = [value] if isinstance(value, Mapping) else value
        if not is_conversation(value):
            continue
        place = f"{where}: column {name!r}"
        turns = turns_of(value, where=place)
        if [turn["role"] for turn in turns] == ["assistant"]:
            texts[name] = turns[0]["content"]
            continue
        _, _, completion = question_in(turns, where=place)
        if completion is None:
            raise PromptError(f"{place} ends without an answer; correct or remove the row")
        texts[name] = completion
    return texts


def _check_route(
    source: PromptSource, columns: Mapping[str, Any], routes: Routes, *, where: str
) -> None:
    """Every reward that a stage uses on these rows must know the row's source."""
    key = source.source_key
    if key not in columns:
        raise PromptError(
            f"{where}: column {key!r} (source_column) is missing{did_you_mean(key, columns)}; "
            f"the row has {', '.join(columns) or 'none'}; correct the key, or complete the row"
        )
    value = str(columns[key])
    for reward, known in routes.items():
        if value not in known:
            raise PromptError(
                f"{where}: {key} is {value!r}, and rewards.{reward}.by_source has no route for it"
                f"{did_you_mean(value, known)} (it has {', '.join(known)}); add one, or correct "
                "the row"
            )
