"""Labelled cases for trying a reward: a JSON list, or one JSON object a line."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rewards.api import Sample

MARK = "####"
"""Between a row's reasoning and its answer, as in GSM8K."""

_OWN = {"id", "gold", "pred", "program", "code", "expected", "question", "prompt"}


class BadCases(ValueError):
    """A file of cases cannot be read; the message names the file, the line and the fix."""


@dataclass(frozen=True)
class Case:
    """A sample, and whether it deserves the reward; None where that is a matter of policy."""

    sample: Sample
    expected: bool | None


def read_cases(path: Path, *, answered: bool = True) -> list[Case]:
    """The cases in a file.

    Each has ``id``, ``expected``, and ``pred`` with ``gold``, or ``program`` with ``tests``;
    other keys become columns. ``prompt`` or ``question`` is the prompt. Without `answered` rows of
    a data set do too: ``pred`` may be missing, and ``answer`` stands for ``gold``, or what follows
    its ``####`` where every row's answer has that mark, as GSM8K's do.

    Raises:
        BadCases: when the file cannot be read, naming the line that is wrong.
    """
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise BadCases(f"{path}: cannot be read: {error}") from error
    rows = list(_rows(text, path))
    if not rows:
        raise BadCases(f"{path}: holds no cases; write one JSON object a line")
    if answered:
        return [case(row, where=where) for where, row in rows]
    answers = [str(row.get("answer")) for _, row in rows if isinstance(row, Mapping)]
    marked = all(MARK in answer for answer in answers)
    return [case(_as_case(row, marked=marked), where=where) for where, row in rows]


def _rows(text: str, path: Path) -> Iterator[tuple[str, Any]]:
    """(place, row) of a JSON list, of one object over several lines, or of an object a line."""
    if text.lstrip().startswith("["):
        yield from ((f"{path}, case {i}", row) for i, row in enumerate(_json(text, path), 1))
    elif text.lstrip().startswith("{\n"):
        yield str(path), _json(text, path)
    else:
        lines = ((f"{path}:{i}", line) for i, line in enumerate(text.splitlines(), 1))
        yield from ((where, _json(line, where)) for where, line in lines if line.strip())


def _as_case(row: Any, *, marked: bool) -> Any:
    if not isinstance(row, Mapping):
        return row
    answer = row.get("answer")
    gold = str(answer).rpartition(MARK)[2].strip() if marked else answer
    return {"pred": "", "gold": gold, **row}


def _json(text: str, where: object) -> Any:
    try:
        return json.loads(text)
    except ValueError as error:
        raise BadCases(f"{where}: not JSON: {error}") from error


def case(row: Mapping[str, Any], *, where: str) -> Case:
    """One case from its row.

    Raises:
        BadCases: when it holds no prediction, or `expected` is no truth value.
    """
    if not isinstance(row, Mapping):
        raise BadCases(f"{where}: a case is a JSON object, not {type(row).__name__}")
    completion = next((row[key] for key in ("pred", "program", "code") if key in row), None)
    if not isinstance(completion, str):
        raise BadCases(f"{where}: a case needs pred (with gold) or program (with tests) as text")
    expected = row.get("expected")
    if expected is not None and not isinstance(expected, (bool, int, float)):
        raise BadCases(f"{where}: expected is true, false or null, not {expected!r}")
    sample = Sample(
        prompt=str(row.get("prompt") or row.get("question") or ""),
        completion=completion,
        gold=None if row.get("gold") is None else str(row["gold"]),
        columns={key: value for key, value in row.items() if key not in _OWN or key == "prompt"},
        id=str(row.get("id", where)),
    )
    return Case(sample, None if expected is None else bool(expected))


def golds_of(cases: Sequence[Case]) -> list[str]:
    """The different golds of some cases, in order."""
    return list(dict.fromkeys(c.sample.gold for c in cases if c.sample.gold is not None))
