"""What a judge writes down: how many checks ran, and which of them failed.

Test code is rewritten so that its assertions come here (:mod:`rewards.sandbox.rewritten`). A check
that fails is on record even where a broad ``except`` swallows its ``AssertionError``.
"""

from __future__ import annotations

import operator
import sys

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

FILE = "tests.py"
MAX_SHOWN = 300
WRONG_ANSWER = "wrong answer"
OPERATORS: dict[str, Callable[[Any, Any], Any]] = {
    "==": operator.eq,
    "!=": operator.ne,
    "<": operator.lt,
    "<=": operator.le,
    ">": operator.gt,
    ">=": operator.ge,
    "is": operator.is_,
    "is not": operator.is_not,
    "in": lambda left, right: left in right,
    "not in": lambda left, right: left not in right,
}


class Failure:
    """What went wrong in a test: the trouble, the test or check, and for comparisons both sides."""

    def __init__(self, trouble: str, test: str, *, expected: str = "", got: str = "") -> None:
        self.trouble, self.test, self.expected, self.got = trouble, test, expected, got


class Record:
    """The checks of one hearing."""

    def __init__(self) -> None:
        self.checks = 0
        self.failures: list[Failure] = []
        self.open: list[tuple[Any, str]] = []
        """Assertions that are being evaluated: (frame, words)."""

    def begin(self, text: str, line: int) -> None:
        """The first thing in an assertion."""
        self.open.append((sys._getframe(1), f"line {line}: assert {text}"))

    def check(self, _: None, value: Any, text: str, line: int) -> bool:
        """An assertion of any kind."""
        holds = bool(value)
        self.open.pop()
        self.checks += 1
        if holds:
            return True
        self.failures.append(Failure(WRONG_ANSWER, f"line {line}: assert {text}"))
        return False

    def compare(
        self, _: None, sign: str, left: Any, right: Any, text: str, line: int, turned: bool
    ) -> bool:
        """An assertion that compares two values; `turned` when the expected one is on the left."""
        holds = bool(OPERATORS[sign](left, right))
        self.open.pop()
        self.checks += 1
        if holds:
            return True
        got, expected = (right, left) if turned else (left, right)
        failure = Failure(WRONG_ANSWER, f"line {line}: assert {text}", got=shown(got))
        failure.expected = shown(expected) if sign == "==" else f"{sign} {shown(expected)}"
        self.failures.append(failure)
        return False

    def caught(self, forgives: bool, broad: bool) -> None:
        """The first thing in an except clause: an error of the program's is a check as well.

        An assertion that an error ended has failed where a clause for any error hides that.
        """
        error = sys.exc_info()[1]
        ended = self.ended()
        if ended and broad and not isinstance(error, AssertionError):
            self.checks += 1
            self.failures.append(Failure(f"raised {shown(error)}", ended))
        elif getattr(error, "of_program", None):
            self.checks += 1
        elif forgives and isinstance(error, AssertionError) and self.failures:
            self.failures.pop()

    def ended(self) -> str:
        """The first of the assertions that ended without a result, below the caller's caller."""
        frame, living, words = sys._getframe(2).f_back, set(), ""
        while frame is not None:
            living.add(id(frame))
            frame = frame.f_back
        while self.open and id(self.open[-1][0]) not in living:
            words = self.open.pop()[1]
        return words

    def missing(self, words: str) -> None:
        """The tests use a name that the program does not define, whoever catches that."""
        self.failures.append(Failure(f"raised NameError: {words}", "the names that tests use"))

    def failed(self, text: str) -> None:
        """A check that is no assert statement failed."""
        self.failures.append(Failure(WRONG_ANSWER, text))


def raised(error: Any) -> Any:
    """What a raise statement of the tests raises: an error that says that something is wrong."""
    if isinstance(error, type) and issubclass(error, BaseException):
        error = error()
    if isinstance(error, Exception):
        error.__dict__.setdefault("of_tests", True)
    return error


def shown(value: object) -> str:
    try:
        text = repr(value)
    except Exception:
        return f"a {type(value).__name__}"
    return text if len(text) <= MAX_SHOWN else f"{text[: MAX_SHOWN - 60]} ... {text[-50:]}"


def line_of(error: BaseException) -> int:
    """The line of the tests in which an error came up, or 0."""
    line, trace = 0, error.__traceback__
    while trace is not None:
        if trace.tb_frame.f_code.co_filename == FILE:
            line = trace.tb_lineno
        trace = trace.tb_next
    return line


def failure_of(error: BaseException, name: str, call: str) -> Failure:
    """An error that ended a test, in words."""
    where = f"{name}, line {line_of(error)}" if line_of(error) else name
    told = getattr(error, "of_program", None)
    if type(told) is tuple:
        kind, text, line = told
        words = f"{kind}: {text}" if text else kind
        place = f" (line {line} of the program)" if line else ""
        return Failure(f"raised {words[:MAX_SHOWN]}{place}", call or where)
    if isinstance(error, AssertionError):
        text = str(error)[:MAX_SHOWN]
        return Failure(WRONG_ANSWER, f"{where}: {text}" if text else where)
    words = f"{type(error).__name__}: {error}"[:MAX_SHOWN]
    if getattr(error, "of_tests", False):
        return Failure(WRONG_ANSWER, f"{where}: {words}")
    return Failure(f"the tests raised {words}", where)
