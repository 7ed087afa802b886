"""What no row may hold, whatever file it comes from: it would end a run later, and far away."""

import re
from collections.abc import Iterator, Mapping
from typing import Any

from pipeline.prompts.prompt_error import PromptError

MAX_NESTING = 64
"""Lists and objects inside each other. Ours: rows of real data sets have a handful."""

_UNUSABLE = re.compile("[\0\ud800-\udfff\ufdd0]")
_NAMES = {
    "\0": "the NUL character",
    "\ufdd0": "U+FDD0 (no character)",
}


def check_row(row: Mapping[str, Any], *, where: str) -> None:
    """Refuse a row with texts that no file can hold, or endless nesting.

    Raises PromptError naming the row, and the column where it is one of the row's.
    """
    for column, value in row.items():
        if (problem := _problem(column)) is not None:
            raise PromptError(f"{where}: the name of column {column!r} {problem}; rename it")
        for text in _texts(value, where=f"{where}: column {column!r}"):
            if (problem := _problem(text)) is not None:
                raise PromptError(
                    f"{where}: column {column!r} {problem}; correct the text, or remove the row"
                )


def _texts(value: Any, *, where: str) -> Iterator[str]:
    """Every text in a value, keys included."""
    level = [value]
    for _ in range(MAX_NESTING):
        yield from (item for item in level if isinstance(item, str))
        yield from (key for item in level if isinstance(item, dict) for key in item)
        level = [
            inner
            for item in level
            if isinstance(item, list | dict)
            for inner in (item.values() if isinstance(item, dict) else item)
        ]
        if not level:
            return
    raise PromptError(f"{where} is nested more than {MAX_NESTING} levels deep; flatten it")


def _problem(text: str) -> str | None:
    match = _UNUSABLE.search(text)
    if match is None:
        return None
    name = _NAMES.get(match[0], f"half a character (the lone surrogate U+{ord(match[0]):04X})")
    return f"holds {name} at position {match.start() + 1}"
