"""A program before a judge: test code in one sandbox, the program in another, calls in between."""

from __future__ import annotations

import marshal
from functools import cache
from pathlib import Path

from rewards.sandbox.box import Box
from rewards.sandbox.boxed_run import Limits, Run
from rewards.sandbox.decode import NotPlain, source_of, value_of
from rewards.sandbox.grade import (
    JUDGE_LIMITS,
    WRONG_ANSWER,
    Grade,
    message_of,
    serving,
    start_trouble,
)
from rewards.sandbox.kinds import Judged

_JUDGE = Path(__file__).with_name("judge.py")


@cache
def _judge_code() -> bytes:
    """The judge's code, compiled once: sandboxes run the interpreter that this process runs."""
    return marshal.dumps(compile(_JUDGE.read_text(), "judge.py", "exec"))


def by_judge(box: Box, judge: Box, program: str, tests: Judged, limits: Limits) -> Grade:
    """Run trusted test code in one sandbox and the program in another, and carry the calls over."""
    run = box.run(serving(program), limits)
    started = start_trouble(run)
    job = {
        "mode": "serve",
        "judge": _judge_code(),
        "name": "tests",
        "program": tests.source,
        "setup": tests.setup,
        "functions": list(tests.functions),
        "entry": tests.entry,
    }
    outcome, detail = started or "silent", ""
    if started is None:
        court = judge.run(job, JUDGE_LIMITS)
        outcome, detail = _hearing(court, run)
        court.end()
    end, ending = run.end()
    if outcome == "silent":
        outcome = ending or "it ended before it had answered"
    passed = int(outcome == "passed")
    trouble = "" if passed else outcome
    return Grade(passed=passed, total=1, trouble=trouble, cpu_s=end.cpu_s, detail=detail[:300])


def _hearing(court: Run, run: Run) -> tuple[str, str]:
    """``passed``, or the trouble and the call it was in; ``silent`` when the program ended."""
    call = ""
    while True:
        statement = court.receive()
        match None if statement is None else message_of(statement):
            case ["passed"]:
                return "passed", ""
            case ["failed", "AssertionError"]:
                return WRONG_ANSWER, call
            case ["failed", str(name)]:
                return f"the tests raised {name}", call
            case ["call", str(name), args, kwargs]:
                call = f"{name}(*{source_of(value_of(args))}, **{source_of(value_of(kwargs))})"
                answer = run.ask(call.replace("Opaque()", "object()"))
                if answer is None:
                    return "silent", call
                court.send(_carried(answer))
            case _:
                return "the tests took too long", call


def _carried(answer: bytes) -> str:
    """A program's answer as the judge's side reads it."""
    match message_of(answer):
        case ["value", code]:
            try:
                return f"value {source_of(value_of(code))}"
            except (NotPlain, RecursionError):
                return "value Opaque()"
        case ["raised", str(name), *_] if name.isidentifier():
            return f"raised {name}"
    return "value Opaque()"
