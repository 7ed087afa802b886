"""Labelled cases for trying a reward: a JSON list, or one JSON object a line."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rewards.api import Sample

_OWN = {"id", "gold", "pred", "program", "code", "expected", "question", "prompt"}


class BadCases(ValueError):
    """A file of cases cannot be read; the message names the file, the line and the fix."""


@dataclass(frozen=True)
class Case:
    """A sample, and whether it deserves the reward; None where that is a matter of policy."""

    sample: Sample
    expected: bool | None


def read_cases(path: Path) -> list[Case]:
    """The cases in a file.

    Each has ``id``, ``expected``, and ``pred`` with ``gold``, or ``program`` with ``tests``;
    other keys become columns. ``prompt`` or ``question`` is the prompt.

    Raises:
        BadCases: naming the line that is wrong.
    """
    text = path.read_text(encoding="utf-8")
    if text.lstrip().startswith("["):
        return [case(row, where=f"{path}, case {i}") for i, row in enumerate(_json(text, path), 1)]
    lines = [(i, line) for i, line in enumerate(text.splitlines(), 1) if line.strip()]
    return [case(_json(line, f"{path}:{i}"), where=f"{path}:{i}") for i, line in lines]


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
