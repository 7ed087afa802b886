"""Rows of hub data sets and JSONL files -> Prompts, refused at the first that is wrong."""

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import Any, cast

from pipeline.prompts.prompt_error import PromptError
from pipeline.prompts.row_values import as_text, json_safe, split_at_mark
from pipeline.recipe.prompt_source import PromptSource
from pipeline.recipe.recipe_errors import did_you_mean
from pipeline.records import Prompt

Routes = Mapping[str, Sequence[str]]
"""By reward: the values of `source_column` that it has a route for."""

NO_ROUTES: Routes = MappingProxyType({})


def hub_rows(source: PromptSource, hub: str) -> Iterator[tuple[int, dict[str, Any]]]:
    """(row from 1, row) of a data set; `hub` is an id or a folder, with `:CONFIG` after it."""
    import datasets

    repository, _, configuration = hub.partition(":")
    try:
        rows = datasets.load_dataset(repository, configuration or None, split=source.split)
    except ConnectionError as error:
        raise PromptError(
            f"data set {repository} cannot be fetched: {error}; connect to the network, fill the "
            "Hugging Face cache beforehand, or save it as JSON lines and use file:"
        ) from error
    except (OSError, ValueError) as error:  # no such data set, configuration or split
        raise PromptError(
            f"data set {repository} cannot be read: {error} "
            "(a configuration is written hub: ID:CONFIG)"
        ) from error
    return enumerate(cast(Iterable[dict[str, Any]], rows), start=1)


def json_rows(path: Path) -> Iterator[tuple[int, dict[str, Any]]]:
    """(line from 1, row) of a JSONL file; blank lines are skipped."""
    with path.open("rb") as stream:
        for number, line in enumerate(stream, start=1):
            if not line.strip():
                continue
            try:
                row = json.loads(line.decode("utf-8-sig" if number == 1 else "utf-8"))
            except json.JSONDecodeError as error:
                raise PromptError(
                    f"{path}, line {number}, column {error.colno}: not JSON ({error.msg}); "
                    "write one JSON object per line"
                ) from error
            except UnicodeDecodeError as error:
                raise PromptError(
                    f"{path}, line {number}: byte {error.start + 1} is not UTF-8; save it as UTF-8"
                ) from error
            if not isinstance(row, dict):
                raise PromptError(
                    f"{path}, line {number}: a {type(row).__name__} where a JSON object such as "
                    '{"question": "...", "answer": "..."} is expected'
                )
            yield number, row


def prompts_of_rows(
    source: PromptSource,
    rows: Iterable[tuple[int, dict[str, Any]]],
    routes: Routes,
    *,
    origin: str,
    unit: str,
) -> Iterator[Prompt]:
    """Rows of a hub data set or a file. Each has `question`; all or none have `answer`."""
    theirs = source.columns.get("answer", "answer")
    promised = "answer" in source.columns or source.answer_after is not None
    count, has_answer = 0, promised
    for number, row in rows:
        if count == source.size:
            return
        where = f"{origin}, {unit} {number}"
        if count == 0:
            has_answer = promised or theirs in row
        if theirs in row and not has_answer:
            raise PromptError(
                f"{where}: the row has {theirs!r} and the first row has none; "
                "give every row an answer, or none"
            )
        yield _from_row(source, row, routes, where=where, has_answer=has_answer)
        count += 1
    if count == 0:
        raise PromptError(f"{origin} has no rows; give it at least one")
    if source.size is not None and count < source.size:
        raise PromptError(
            f"size asks for {source.size} rows and {origin} has {count}; lower size or leave it out"
        )


def _from_row(
    source: PromptSource, row: Mapping[str, Any], routes: Routes, *, where: str, has_answer: bool
) -> Prompt:
    names = {"question": "question", **({"answer": "answer"} if has_answer else {})}
    names |= source.columns
    for ours, theirs in names.items():
        if theirs not in row:
            raise PromptError(_missing(ours, theirs, row, where=where))
    values = {ours: row[theirs] for ours, theirs in names.items()}
    question = as_text(values.pop("question"), where=where, column=names["question"])
    answer, worked = None, {}
    if has_answer:
        answer = as_text(values.pop("answer"), where=where, column=names["answer"])
        if source.answer_after is not None:
            before, answer = split_at_mark(answer, source.answer_after, where=where)
            worked = {"worked": before}
    others = {theirs: row[theirs] for theirs in row if theirs not in names.values()}
    columns = cast(dict[str, Any], json_safe({**worked, **others, **values}))
    if source.source_column is not None:
        _check_route(source, columns, routes, where=where)
    return Prompt(id="", question=question, answer=answer, columns=columns, place=where)


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


def _missing(ours: str, theirs: str, row: Mapping[str, Any], *, where: str) -> str:
    """The sentence about a column that a row lacks."""
    fix = f"map it with columns: {{{ours}: NAME}}" if ours == theirs else "correct columns"
    return (
        f"{where}: column {theirs!r} is missing{did_you_mean(theirs, row)}; "
        f"the row has {', '.join(row) or 'none'}; {fix}, or complete the row"
    )
