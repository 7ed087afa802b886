"""What a program is asked: the kinds of tests, as data.

Standard input and output; calls with their expected values; and, for test code that is more than a
list of equalities, the code itself, to be run where the program is not, with each call of a
function under test going out to the program (:class:`Judged`). Calls may also come with a
reference in place of values (:class:`Referenced`).
"""

from __future__ import annotations

import re
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
    lend: bool = False
    """Whether a Python program may use the common modules without importing them."""


@dataclass(frozen=True)
class Call:
    """An expression for the program to evaluate, and the value it should have."""

    source: str
    expected: Any
    truth: bool = False
    """Whether only the truth of the value counts, as in ``assert f(x)``."""
    json: bool = False
    """Whether `expected` came from JSON, whose lists also stand for tuples."""
    others: tuple[Any, ...] = ()
    """Values that are right besides `expected`."""
    function: str | None = None
    """The function that is called, where data names it; it may be a method of ``Solution``."""
    lend: bool = False
    """As in :class:`Stdio`."""
    test: str = ""
    """The test function that the call stands in; empty for one that is a test of its own."""
    words: str = ""
    """The call as its test writes it, for reports."""
    wrappers: tuple[str, ...] = ()
    """Built-ins in the source, which are Python's own whatever the program has by these names."""
    tested: str = ""
    """What is called within `wrappers`; empty where the source begins with it."""
    within: float | None = None
    """How far a number may be from `expected`, where the test says so."""

    @property
    def head(self) -> str:
        """The name of the program's that is called; of a method, the class."""
        match = re.match(r"\w+", self.tested or self.function or self.source)
        return match[0] if match else ""


@dataclass(frozen=True, kw_only=True)
class Judged:
    """Trusted test code, the trusted code before it, and what they take from the program."""

    source: str
    setup: str
    functions: tuple[str, ...]
    """Names from the program: functions, classes, values."""
    entry: str | None
    classes: tuple[str, ...] = ()
    """Those of the names that read as classes."""
    modules: tuple[str, ...] = ()
    """Names of modules under which the program is imported."""
    star: bool = False
    """Whether any public name of the program may be used."""
    imports: tuple[str, ...] = ()
    """Other modules that the tests use."""
    checked: bool = False
    """Whether the code calls its own ``check`` function."""
    carries: bool = False
    """Whether no comparison has both sides from arguments and results: then what a call with a
    result changes in place may come over, and no program can set what it is compared with."""


@dataclass(frozen=True, kw_only=True)
class Referenced:
    """Calls whose expected values are those of a trusted program, which runs apart."""

    reference: str
    calls: tuple[str, ...]
    function: str
    tolerance: float | None
    """How far numbers may be off; None for what EvalPlus allows floats, 1e-6."""


@dataclass(frozen=True, kw_only=True)
class Sourced:
    """Tests in another language than Python, which become one file with the program."""

    source: str
    prompt: str
    """Code that a program goes on from, or whose headers it needs."""
    language: str
    setup: str = ""
    """What stands before the tests in Go: their imports."""


PythonTests = Sequence[Stdio] | Sequence[Call] | Judged | Referenced
Tests = PythonTests | Sourced
