"""Putting a program to its tests, with the expected answers on this side of the sandbox."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from rewards.sandbox.box import Box
from rewards.sandbox.boxed_run import Broken, Limits, Run
from rewards.sandbox.decode import NotPlain, decoded, value_of
from rewards.sandbox.kinds import Call, Stdio
from rewards.sandbox.languages import ENVIRONMENT, language
from rewards.sandbox.ways import Isolation

WRONG_ANSWER = "wrong answer"


@dataclass(frozen=True, kw_only=True)
class Grade:
    """How many tests a program passed, and what went wrong first."""

    passed: int
    total: int
    trouble: str = ""
    """Empty, `WRONG_ANSWER`, `TIMEOUT`, or what the program did instead of answering."""
    cpu_s: float = 0.0
    detail: str = ""


def by_calls(
    box: Box, program: str, calls: Sequence[Call], limits: Limits, *, every: bool
) -> Grade:
    """Define the program once and evaluate every call in it; stops at a failure unless `every`."""
    run = box.run(serving(program), limits)
    passed, trouble, detail = 0, "", ""
    started = start_trouble(run)
    if started is None:
        for call in calls:
            answer = run.ask(call.source)
            if answer is None:
                break
            wrong = _wrong(call, answer)
            passed += not wrong
            if wrong and not trouble:
                trouble, detail = wrong, call.source
                if not every:
                    break
    end, ending = run.end()
    if not trouble and passed < len(calls):
        trouble = started or ending or "it ended before it had answered"
    return Grade(
        passed=passed, total=len(calls), trouble=trouble, cpu_s=end.cpu_s, detail=detail[:300]
    )


def serving(program: str) -> dict[str, Any]:
    return {"mode": "serve", "judge": False, "name": "solution", "program": program}


def start_trouble(run: Run) -> str | None:
    """What went wrong while the program was defined, or None; empty when it just ended."""
    answer = run.receive()
    if answer is None:
        return ""
    message = message_of(answer)
    return None if message == "defined" else words_of(message)


def message_of(answer: bytes) -> Any:
    try:
        return decoded(answer)
    except NotPlain:
        return None


def words_of(message: Any) -> str:
    match message:
        case ["raised", str(name)]:
            return f"raised {name[:60]}"
    return "it answered something else than a value"


def _wrong(call: Call, answer: bytes) -> str:
    """Empty when the answer is the expected one."""
    message = message_of(answer)
    match message:
        case ["value", code]:
            try:
                value = value_of(code)
                same = bool(value) == call.expected if call.truth else value == call.expected
            except (NotPlain, RecursionError):
                return "it answered something else than a value"
            return "" if same else WRONG_ANSWER
    return words_of(message)


def by_stdio(
    box: Box,
    program: str,
    cases: Sequence[Stdio],
    limits: Limits,
    *,
    every: bool,
    spoken: str | Mapping[str, Any] = "python",
) -> Grade:
    """Run the program once per case; its output must match line by line, trailing space aside."""
    job: dict[str, Any] = {"mode": "main", "program": program}
    if spoken != "python":
        tools = language(spoken)
        commands = [list(command) for command in tools.commands]
        job |= {"mode": "command", "file": tools.file, "commands": commands}
        job["environment"] = ENVIRONMENT
    passed, trouble, detail, cpu_s = 0, "", "", 0.0
    for case in cases:
        run = box.run(dict(job), limits)
        output = run.talk(case.input.encode())
        end, ending = run.end()
        cpu_s += end.cpu_s
        wrong = "too much output" if output is None else ending or _differs(output, case.expected)
        passed += not wrong
        if wrong and not trouble:
            trouble, detail = wrong, case.input[:300]
            if not every:
                break
    return Grade(passed=passed, total=len(cases), trouble=trouble, cpu_s=cpu_s, detail=detail)


def _differs(output: bytes | None, expected: str) -> str:
    lines = (output or b"").decode(errors="replace").rstrip().split("\n")
    due = expected.rstrip().split("\n")
    same = [line.rstrip() for line in lines] == [line.rstrip() for line in due]
    return "" if same else WRONG_ANSWER


def report(isolation: Isolation = "best") -> dict[str, Any]:
    """What isolates programs on this machine, for a health check: way, user and layers."""
    try:
        with Box(isolation) as box:
            run = box.run({"mode": "main", "program": "import os\nprint(os.getuid())"}, Limits())
            inside = (run.talk(b"") or b"").strip().decode()
            run.end()
    except (RuntimeError, Broken) as error:
        return {"isolation": "none", "usable": False, "reason": str(error)}
    return {
        "isolation": box.way.name,
        "usable": True,
        "root": os.geteuid() == 0,
        "uid_inside": inside,
        "layers": box.way.layers,
    }
