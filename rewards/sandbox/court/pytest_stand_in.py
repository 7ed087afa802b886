"""What test code uses of pytest, small enough to be there for every hearing."""

from __future__ import annotations

import _io
import os
import sys
import types

from rewards.sandbox.court import collect
from rewards.sandbox.court.fixtures import Fixture, Mark, Param
from rewards.sandbox.court.things import Refused

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from typing import Any

NUMBERS = (int, float, complex)
UNSET = object()


def module(session: collect.Session) -> types.ModuleType:
    """The module ``pytest``, for one session."""
    pytest = types.ModuleType("pytest")
    log = session.log

    def raises(expected: Any, *args: Any, match: str | None = None, **kwargs: Any) -> Any:
        context = Raises(log, expected, match)
        if not args:
            return context
        with context as info:
            args[0](*args[1:], **kwargs)
        return info

    def refuse(name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        raise Refused(f"pytest.{name} is not offered; write the check as an assertion")

    pytest.__dict__.update(
        raises=raises, approx=approx, fixture=fixture, mark=Marks(), fail=fail, skip=skip,
        xfail=skip, param=param, importorskip=importorskip, main=lambda *_, **__: 0,
        MonkeyPatch=lambda: MonkeyPatch(session.line), exit=fail, __getattr__=refuse,
        FixtureRequest=object, CaptureFixture=Captured, ExceptionInfo=ExceptionInfo,
        warns=Warns,
    )  # fmt: skip
    return pytest


class Marks:
    """``pytest.mark``."""

    def __getattr__(self, name: str) -> Mark:
        return Mark(name)


def fixture(function: Callable | None = None, **options: Any) -> Any:
    """``@pytest.fixture``, with or without options."""

    def made(target: Callable) -> Fixture:
        one = Fixture(
            target, options.get("scope", "function"), options.get("params"),
            bool(options.get("autouse")),
        )  # fmt: skip
        one.__name__ = options.get("name") or target.__name__
        return one

    return made(function) if function is not None else made


def param(*values: Any, marks: Any = (), id: str | None = None) -> Param:
    return Param(values, marks)


def fail(reason: str = "", *_: Any, **__: Any) -> None:
    raise AssertionError(reason)


def skip(*_: Any, **__: Any) -> None:
    raise collect.Skipped


def importorskip(name: str, *_: Any, **__: Any) -> Any:
    try:
        return __import__(name, fromlist=["_"])
    except ImportError:
        raise collect.Skipped from None


class ExceptionInfo:
    """What ``raises`` gives."""

    value: Any = None

    @property
    def type(self) -> Any:
        return type(self.value)

    @property
    def typename(self) -> str:
        return type(self.value).__name__

    def __class_getitem__(cls, _: Any) -> Any:
        return cls

    def match(self, pattern: str) -> bool:
        import re

        assert re.search(pattern, str(self.value)), f"{pattern!r} is not in {self.value!s:.200}"
        return True


class Raises:
    """A context in which an error is expected: one check."""

    def __init__(self, log: Any, expected: Any, pattern: str | None) -> None:
        self.log, self.expected, self.pattern = log, expected, pattern
        self.info = ExceptionInfo()

    def __enter__(self) -> ExceptionInfo:
        self.before = len(self.log.failures)
        return self.info

    def __exit__(self, kind: Any, error: Any, _: Any) -> bool:
        self.log.checks += 1
        if kind is None:
            self.log.failed(f"nothing raised {getattr(self.expected, '__name__', self.expected)}")
            raise AssertionError("it did not raise")
        if not isinstance(error, self.expected):
            return False
        if isinstance(error, AssertionError):
            del self.log.failures[self.before :]
        self.info.value = error
        if self.pattern is not None:
            try:
                self.info.match(self.pattern)
            except AssertionError as wrong:
                self.log.failed(str(wrong))
                raise
        return True


class Warns:
    """``pytest.warns``: warnings of the program do not come over."""

    def __init__(self, *_: Any, **__: Any) -> None:
        raise Refused("pytest.warns is not offered: warnings stay in the program's process")


class approx:
    """A number, or a list, tuple or dict of numbers, within a tolerance."""

    def __init__(
        self, expected: Any, rel: float | None = None, abs: float | None = None,
        nan_ok: bool = False,
    ) -> None:  # fmt: skip
        self.expected, self.rel, self.abs, self.nan_ok = expected, rel, abs, nan_ok

    def __repr__(self) -> str:
        return f"approx({self.expected!r})"

    __hash__ = None  # type: ignore[assignment]

    def __eq__(self, value: Any) -> bool:
        return self.near(value, self.expected)

    def near(self, value: Any, expected: Any) -> bool:
        if isinstance(expected, dict):
            return (
                isinstance(value, dict)
                and value.keys() == expected.keys()
                and all(self.near(value[key], expected[key]) for key in expected)
            )
        if isinstance(expected, (list, tuple)):
            return (
                isinstance(value, (list, tuple))
                and len(value) == len(expected)
                and all(map(self.near, value, expected))
            )
        is_number = isinstance(expected, NUMBERS) and isinstance(value, NUMBERS)
        if value == expected or not is_number or isinstance(expected, bool):
            return bool(value == expected)
        if expected != expected:
            return self.nan_ok and value != value
        size = abs(expected)
        if size == float("inf"):
            return False
        given = self.rel is not None or self.abs is None
        slack = float(self.rel if self.rel is not None else 1e-6) * float(size) if given else 0.0
        return abs(value - expected) <= max(slack, 1e-12 if self.abs is None else self.abs)


class Captured:
    """``capsys``: what tests and program print."""

    def __init__(self) -> None:
        self.before = sys.stdout, sys.stderr
        self.open()

    def open(self) -> None:
        sys.stdout, sys.stderr = _io.StringIO(), _io.StringIO()

    def readouterr(self) -> Any:
        out, err = sys.stdout.getvalue(), sys.stderr.getvalue()  # type: ignore[attr-defined]
        self.open()
        return Output((out, err))

    def disabled(self) -> Captured:
        return self

    def __enter__(self) -> Captured:
        return self

    def __exit__(self, *_: object) -> None:
        return None

    def close(self) -> None:
        sys.stdout, sys.stderr = self.before


class Output(tuple):
    """(out, err), also by name."""

    out = property(lambda self: self[0])
    err = property(lambda self: self[1])


class MonkeyPatch:
    """``monkeypatch``; what it replaces in the standard library is replaced for the program too."""

    def __init__(self, line: Any) -> None:
        self.line = line
        self.undoing: list[Callable[[], object]] = []

    def setattr(self, target: Any, name: Any, value: Any = UNSET, raising: bool = True) -> None:
        if value is UNSET:
            target, name, value = *resolved(target), name
        if raising and not hasattr(target, name):
            raise AttributeError(name)
        before = getattr(target, name, UNSET)
        restore = lambda: setattr(target, name, before)  # noqa: E731
        self.undoing.append(restore if before is not UNSET else lambda: delattr(target, name))
        setattr(target, name, value)
        if is_library(target) and not (target is sys and name in ("stdout", "stderr")):
            self.line.patch(target.__name__, name, value, on=True)
            self.undoing.append(lambda: self.line.patch(target.__name__, name, None, on=False))

    def delattr(self, target: Any, name: Any = UNSET, raising: bool = True) -> None:
        if name is UNSET:
            target, name = resolved(target)
        before = getattr(target, name)
        delattr(target, name)
        self.undoing.append(lambda: setattr(target, name, before))

    def setitem(self, table: Any, key: Any, value: Any) -> None:
        if table is os.environ:
            return self.setenv(key, value)
        before = table.get(key, UNSET)
        table[key] = value
        gone = lambda: table.pop(key, None)  # noqa: E731
        self.undoing.append(gone if before is UNSET else lambda: table.__setitem__(key, before))
        return None

    def delitem(self, table: Any, key: Any, raising: bool = True) -> None:
        before = table.pop(key)
        self.undoing.append(lambda: table.__setitem__(key, before))

    def setenv(self, name: str, value: str, prepend: str | None = None) -> None:
        raise Refused(
            "monkeypatch.setenv is not offered: the program has an environment of its own"
        )

    delenv = chdir = syspath_prepend = setenv

    def context(self) -> MonkeyPatch:
        return MonkeyPatch(self.line)

    def __enter__(self) -> MonkeyPatch:
        return self

    def __exit__(self, *_: object) -> None:
        self.undo()

    def undo(self) -> None:
        while self.undoing:
            self.undoing.pop()()


def resolved(path: str) -> tuple[Any, str]:
    """(object, attribute) of a dotted path."""
    before, _, name = path.rpartition(".")
    parts = before.split(".")
    target = __import__(parts[0])
    for part in parts[1:]:
        target = getattr(target, part)
    return target, name


def is_library(target: Any) -> bool:
    """Whether it is a module of the standard library."""
    return type(target) is types.ModuleType and (
        target.__name__.partition(".")[0] in sys.stdlib_module_names
        and target.__name__ != "__main__"
    )


def marks_of(function: Any) -> Iterator[Mark]:
    yield from function.__dict__.get("pytestmark", [])
