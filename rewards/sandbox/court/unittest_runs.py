"""``unittest`` before a judge: its cases are run by its own code, and its assertions counted."""

from __future__ import annotations

import sys
import unittest

from rewards.sandbox.court import collect, record
from rewards.sandbox.court.pytest_stand_in import is_library
from rewards.sandbox.court.things import Ended, Refused

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any


def prepare(session: collect.Session) -> None:
    """Count assertions; ``unittest.main()`` does nothing, as the cases are collected."""
    unittest.main = lambda *_, **__: None  # type: ignore[misc,assignment]
    for name in dir(unittest.TestCase):
        if name.startswith("assert"):
            setattr(unittest.TestCase, name, _counted(getattr(unittest.TestCase, name), session))
    if "unittest.mock" in session.job["imports"]:
        _mirror(session)


def _counted(method: Any, session: collect.Session) -> Any:
    def counted(self: Any, *args: Any, **kwargs: Any) -> Any:
        inside = session.__dict__.setdefault("inside", [])
        session.log.checks += not inside  # assertions call each other
        inside.append(method)
        try:
            return method(self, *args, **kwargs)
        finally:
            inside.pop()

    counted.__name__ = method.__name__
    return counted


def _mirror(session: collect.Session) -> None:
    """What a mock replaces in the standard library is replaced for the program too."""
    from unittest import mock

    kind: Any = mock._patch
    enter, leave = kind.__enter__, kind.__exit__

    def mirrored(patch: Any) -> bool:
        streams = patch.target is sys and patch.attribute in ("stdout", "stderr")
        return is_library(patch.target) and not streams

    def entered(self: Any) -> Any:
        value = enter(self)
        if mirrored(self):
            new = getattr(self.target, self.attribute)
            session.line.patch(self.target.__name__, self.attribute, new, on=True)
        return value

    def left(self: Any, *args: Any) -> Any:
        if mirrored(self):
            session.line.patch(self.target.__name__, self.attribute, None, on=False)
        return leave(self, *args)

    kind.__enter__, kind.__exit__ = entered, left


class Result(unittest.TestResult):
    """Passes what happens on to the session."""

    def __init__(self, session: collect.Session, *, failfast: bool) -> None:
        super().__init__()
        self.session, self.failfast = session, failfast
        self.failure: record.Failure | None = None
        self.skips = False

    def startTest(self, test: Any) -> None:
        super().startTest(test)
        self.failure, self.skips = None, False
        self.session.tries += 1
        self.before = len(self.session.log.failures)

    def stopTest(self, test: Any) -> None:
        super().stopTest(test)
        failures = self.session.log.failures[self.before :]
        if failures and self.failure is None:
            self.failure = failures[0]
        if not self.skips:
            self.session.count(self.failure)
        if self.session.line.over or (self.failure and self.failfast):
            self.stop()

    def wrong(self, test: Any, error: Any) -> None:
        name = getattr(test, "_testMethodName", None) or str(test)
        if isinstance(error[1], Refused):
            raise error[1]
        line = self.session.line
        failure = record.failure_of(error[1], f"{name}", line.last)
        recorded = self.session.log.failures[getattr(self, "before", 0) :]
        if recorded and isinstance(error[1], AssertionError):
            failure = recorded[0]
        if line.over or isinstance(error[1], Ended):
            failure = record.Failure("ended", line.last or name)
        self.failure = self.failure or failure
        if not hasattr(test, "_testMethodName"):  # set-up of the class
            self.session.count(failure)

    def addError(self, test: Any, err: Any) -> None:
        self.wrong(test, err)

    def addFailure(self, test: Any, err: Any) -> None:
        self.wrong(test, err)

    def addSubTest(self, test: Any, subtest: Any, err: Any) -> None:
        if err is not None:
            self.wrong(test, err)

    def addSkip(self, test: Any, reason: str) -> None:
        self.skips = True

    def addExpectedFailure(self, test: Any, err: Any) -> None:
        self.skips = True


def run(session: collect.Session, kind: type[unittest.TestCase]) -> None:
    """Run the cases of a class."""
    suite = unittest.defaultTestLoader.loadTestsFromTestCase(kind)
    result = Result(session, failfast=not session.job["every"])
    try:
        suite.run(result)
    except Ended:
        session.count(record.Failure("ended", session.line.last))
