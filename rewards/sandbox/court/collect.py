"""Finding and running tests as pytest and unittest do: functions, classes, parameters, fixtures."""

from __future__ import annotations

import sys
import types

from rewards.sandbox.court import record
from rewards.sandbox.court.things import Ended, Refused

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from typing import Any


class Skipped(BaseException):
    """A test says that it is not to be run."""


class Session:
    """All tests of one module, run one after the other."""

    def __init__(self, job: dict, space: dict, log: record.Record, line: Any) -> None:
        self.job, self.space, self.log, self.line = job, space, log, line
        self.passed = self.total = self.tries = 0
        self.first: record.Failure | None = None

    def prepare(self, names: dict[str, Any]) -> None:
        """Fill the module with what tests may use."""
        space, log = self.space, self.log
        sys.modules["__main__"] = sys.modules[self.job["name"]]
        space["__name__"], space["__file__"] = "__main__", record.FILE
        space["__check__"], space["__compare__"] = log.check, log.compare
        space["__caught__"], space["__raised__"] = log.caught, record.raised
        space["__begin__"] = log.begin
        if "pytest" in self.job["imports"]:
            from rewards.sandbox.court import pytest_stand_in

            sys.modules["pytest"] = pytest_stand_in.module(self)
        if "unittest" in self.job["imports"]:
            from rewards.sandbox.court import unittest_runs

            unittest_runs.prepare(self)
        exec(compile(self.job["setup"], "setup.py", "exec", dont_inherit=True), space)
        space.update(names)

    def run(self) -> None:
        """The module itself is a test where it checks anything, or where it fails."""
        checks = self.log.checks
        if not self.test("the tests", self.run_module, leaving=True):
            return
        checks = self.log.checks - checks
        self.tries = 0
        self.run_members()
        if self.tries and not checks:  # the module only defines tests
            self.total, self.passed = self.total - 1, self.passed - 1

    def run_members(self) -> None:
        for name, value in list(self.space.items()):
            if self.first is not None and not self.job["every"]:
                return
            self.run_member(name, value)

    def run_module(self) -> None:
        from marshal import loads

        exec(loads(self.job["program"]), self.space)
        entry, check = self.job["entry"], self.space.get("check")
        if entry and isinstance(check, types.FunctionType) and not self.job["checked"]:
            check(self.space[entry])

    def run_member(self, name: str, value: Any) -> None:
        """Run what is a test, or holds some."""
        if isinstance(value, types.FunctionType) and name.startswith("test"):
            if value.__module__ == "__main__" and name not in self.job["names"]:
                self.run_function(name, value, None)
        elif isinstance(value, type) and value.__module__ == "__main__":
            unittest = sys.modules.get("unittest")
            if unittest is not None and issubclass(value, unittest.TestCase):
                from rewards.sandbox.court import unittest_runs

                unittest_runs.run(self, value)
            elif name.startswith("Test"):
                self.run_class(name, value)

    def run_class(self, name: str, kind: type) -> None:
        if "__init__" in kind.__dict__:
            return
        for method in [*dict.fromkeys(m for base in kind.__mro__[::-1] for m in base.__dict__)]:
            value = getattr(kind, method)
            if method.startswith("test") and callable(value):
                self.run_function(f"{name}.{method}", value, kind)
                if self.first is not None and not self.job["every"]:
                    return

    def run_function(self, name: str, function: Callable, owner: type | None) -> None:
        """A test function or method, once for each of its parameters' values."""
        from rewards.sandbox.court import fixtures

        for title, body in fixtures.runs(self, name, function, owner):
            self.test(title, body)
            if self.first is not None and not self.job["every"]:
                return

    def test(self, name: str, body: Callable[[], object], *, leaving: bool = False) -> bool:
        """Run one test and count it; whether it passed."""
        if self.line.over:
            return False
        self.tries += 1
        before = len(self.log.failures)
        self.log.open.clear()
        failure = None
        try:
            body()
        except (Skipped, Refused) as error:
            if isinstance(error, Refused):
                raise
            return True
        except Ended:
            failure = record.Failure("ended", self.line.last or name)
        except SystemExit as error:
            if not leaving or getattr(error, "of_program", None):
                failure = record.failure_of(error, name, self.line.last)
            elif error.code not in (None, 0):  # as a process, the tests would have failed
                failure = record.Failure(record.WRONG_ANSWER, f"exit code {error.code}"[:300])
        except BaseException as error:
            failure = record.failure_of(error, name, self.line.last)
        if self.line.over:
            failure = record.Failure("ended", self.line.last or name)
        if len(self.log.failures) > before and not (failure and failure.trouble == "ended"):
            failure = self.log.failures[before]
        self.count(failure)
        return failure is None

    def count(self, failure: record.Failure | None) -> None:
        self.total += 1
        self.passed += failure is None
        self.first = self.first or failure


def members(kind: type) -> Iterator[tuple[str, Any]]:
    """Names and values of a class, those of its bases first."""
    for base in kind.__mro__[::-1]:
        yield from base.__dict__.items()
