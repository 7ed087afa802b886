"""Whether what a program returned or printed is what its test expects.

Values that test code states must be equal as in Python. Expected values that come from JSON have no
tuples and only text as keys, so their lists also stand for tuples and what yields the same items.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

from rewards.sandbox.decode import Items

Compare = Literal["lines", "tokens", "exact"]
COMPARE: tuple[Compare, ...] = ("lines", "tokens", "exact")
SLIP = 1e-9
"""Relative error that two orders of the same sum may have; far below what a wrong formula gives."""
MANY_PLACES = 6
"""Places after the point from which on an expected number stands for all that round to it."""
MAX_RANGE = 1_000_000
_NUMBER = re.compile(r"[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?")


@dataclass(frozen=True, kw_only=True)
class Rules:
    """How answers are compared.

    Without `tolerance`, numbers with a fraction are the same within a relative error of 1e-9, or
    where an expected one of six places or more is the other one, rounded; 0 asks for equality.
    With it, all numbers are the same whose difference is at most `tolerance`, absolute or relative.
    Two whole numbers are only ever the same when they are equal.
    """

    compare: Compare = "lines"
    tolerance: float | None = None


def same_value(value: Any, expected: Any, rules: Rules, *, json: bool) -> bool:
    """Whether a decoded `value` is the expected one; `json` where that has only what JSON has."""
    if not json and rules.tolerance is None:
        return bool(value == expected)
    if _is_number(expected):
        return _is_number(value) and _near(value, expected, repr(expected), rules, json=json)
    if isinstance(expected, (list, tuple)):
        items = _items(value) if json else value if type(value) is type(expected) else None
        return (
            items is not None
            and len(items) == len(expected)
            and all(
                same_value(mine, due, rules, json=json)
                for mine, due in zip(items, expected, strict=True)
            )
        )
    if isinstance(expected, Mapping):
        return isinstance(value, dict) and _same_table(value, expected, rules, json=json)
    return bool(value == expected)


def _is_number(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool)


def _items(value: Any) -> list[Any] | None:
    if isinstance(value, Items):
        return value.items
    if isinstance(value, range):
        return list(value[: MAX_RANGE + 1])
    return list(value) if isinstance(value, (list, tuple)) else None


def _same_table(
    table: dict[Any, Any], expected: Mapping[Any, Any], rules: Rules, *, json: bool
) -> bool:
    mine = {_key(key): item for key, item in table.items()} if json else table
    due = {_key(key): item for key, item in expected.items()} if json else expected
    return mine.keys() == due.keys() and all(
        same_value(mine[key], due[key], rules, json=json) for key in due
    )


def _key(key: Any) -> str:
    """A key as JSON would have it."""
    match key:
        case str():
            return key
        case True | False:
            return str(key).lower()
        case None:
            return "null"
    return repr(key)


def _near(value: float, expected: float, written: str, rules: Rules, *, json: bool = True) -> bool:
    """Whether two numbers are the same under the rules; `written` is the expected one's text."""
    if value == expected or (value != value and expected != expected):  # two NaNs
        return True
    if isinstance(value, int) and isinstance(expected, int):
        return False
    try:
        difference = abs(value - expected)
    except OverflowError:  # an integer beyond all floats
        return False
    if not math.isfinite(difference):
        return False
    if rules.tolerance is not None:
        return difference <= rules.tolerance * max(1.0, abs(expected))
    if not json or not isinstance(expected, float):
        return False
    places = len(written.partition(".")[2]) if "e" not in written.lower() else 0
    rounds = places >= MANY_PLACES and difference <= 0.5 * 10.0**-places * (1 + SLIP)
    return rounds or difference <= SLIP * abs(expected)


def same_output(output: str, expected: str, rules: Rules) -> bool:
    """Whether a program printed what it should.

    ``lines``: line by line, space at their ends and empty lines at the end aside. ``tokens``:
    words, however they are spaced. ``exact``: every character. Numbers with a fraction may differ
    as :class:`Rules` says, except in ``exact``.
    """
    if rules.compare == "exact":
        return output == expected
    if rules.compare == "tokens":
        return _same_words(output.split(), expected.split(), rules)
    lines, due = (_lines(text) for text in (output, expected))
    if len(lines) != len(due):
        return False
    return all(
        mine == theirs or _same_words(re.split(r"(\s+)", mine), re.split(r"(\s+)", theirs), rules)
        for mine, theirs in zip(lines, due, strict=True)
    )


def _lines(text: str) -> list[str]:
    return [line.rstrip() for line in text.rstrip().split("\n")]


def _same_words(words: list[str], expected: list[str], rules: Rules) -> bool:
    return len(words) == len(expected) and all(
        mine == due or _same_number(mine, due, rules)
        for mine, due in zip(words, expected, strict=True)
    )


def _same_number(word: str, expected: str, rules: Rules) -> bool:
    if len(word) > 400 or not (_NUMBER.fullmatch(word) and _NUMBER.fullmatch(expected)):
        return False
    if rules.tolerance is None and "." not in expected:
        return False
    if not set(word + expected) & set(".eE"):
        return False
    return _near(float(word), float(expected), expected, rules)
