"""The judge's half of a hearing: runs trusted tests, which ask the program over a line.

The module of the tests is ``__main__``, so that what stands under a main guard runs; then the test
functions and classes in it that pytest and unittest would run.
"""

from __future__ import annotations

import _json
import sys

from rewards.sandbox.court import collect, record, remote, things
from rewards.sandbox.court.nulls import Nothing, NullLine

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

quoted = _json.encode_basestring_ascii


def main(job: dict, space: dict, send: Callable, receive: Callable) -> None:
    """Run the tests and report: passed, total, checks, and the first failure."""
    log = record.Record()
    if job["null"] is None:
        line: Any = remote.Line(send, receive, job)
        told = line.names(job["told"])

        def value_of(name: str) -> Any:
            if name not in told:
                raise AttributeError(f"the program defines no {name}")
            return told[name]

        names = {name: told.get(name, things.Missing(name, log)) for name in job["names"]}
    else:
        line = NullLine(eval(job["null"], {"inf": float("inf"), "nan": float("nan")}))

        def value_of(name: str) -> Any:
            if name.startswith("__"):
                raise AttributeError(name)
            return Nothing

        told = names = dict.fromkeys(job["names"], Nothing)
    for module in {"solution", *job["modules"]}:
        sys.modules[module] = things.ProgramModule(module, value_of, line)
        sys.modules[module].__dict__["__all__"] = [name for name in job["names"] if name in told]
    session = collect.Session(job, space, log, line)
    try:
        session.prepare(names)
        session.run()
    except things.Refused as error:
        send(f'["refused", {quoted(str(error))}]')
        return
    report = [session.passed, session.total, log.checks, line.calls]
    first = session.first
    words = [first.trouble, first.test, first.expected, first.got] if first else []
    numbers = ", ".join(map(str, report))
    send(f'["report", [{numbers}], [{", ".join(map(quoted, words))}]]')
