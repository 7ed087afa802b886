"""What a program is asked: the three kinds of tests, as data.

Standard input and output; calls with their expected values; and, for test code that is more than a
list of equalities, the code itself, to be run where the program is not, with each call of a
function under test going out to the program (:class:`Judged`).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any


class BadTests(ValueError):
    """The tests of a row cannot be read; it says what is wrong with them."""


@dataclass(frozen=True)
class Stdio:
    """A whole run of the program: what it reads and what it should print."""

    input: str
    expected: str


@dataclass(frozen=True)
class Call:
    """An expression for the program to evaluate, and the value it should have."""

    source: str
    expected: Any
    truth: bool = False
    """Whether only the truth of the value counts, as in ``assert f(x)``."""


@dataclass(frozen=True)
class Judged:
    """Trusted test code, the trusted code before it, and the functions it gets from the program."""

    source: str
    setup: str
    functions: tuple[str, ...]
    entry: str | None


Tests = Sequence[Stdio] | Sequence[Call] | Judged
