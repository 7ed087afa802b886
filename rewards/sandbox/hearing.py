"""A program before a judge: test code in one sandbox, the program in another, calls in between.

judge (tests)            here (answers are decoded)          witness (the program)
  | ask: an expression ------> | -------------------------------> | evaluates
  | <------ value, raised ---- | <------- JSON, never believed -- |
  | <------ visit (a function of the tests is called) ----------- |
  | reply -------------------> | -------------------------------> |
  | report: passed, total, checks, first failure
"""

from __future__ import annotations

import ast
import marshal
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cache, lru_cache
from pathlib import Path
from typing import Any

from rewards.sandbox.asking import aliases, null_answers, plainly_asks
from rewards.sandbox.box import Box
from rewards.sandbox.boxed_run import Limits, Run
from rewards.sandbox.decode import NotPlain
from rewards.sandbox.grade import (
    JUDGE_LIMITS,
    WRONG_ANSWER,
    Grade,
    by_calls,
    message_of,
    serving,
    shortened,
)
from rewards.sandbox.kinds import BadTests, Call, Judged
from rewards.sandbox.program_names import BUILTINS
from rewards.sandbox.rewritten import rewritten
from rewards.sandbox.same import Rules
from rewards.sandbox.testimony import spelled

NULL_LIMITS = Limits(cpu_s=2.0, memory_mib=1024)
_COURT = Path(__file__).with_name("court")
_PACKAGE = "rewards.sandbox.court"
_JUDGE = (
    "witness", "record", "things", "remote", "collect", "fixtures", "pytest_stand_in",
    "unittest_runs", "nulls", "judge",
)  # fmt: skip
_WITNESS = ("witness",)
_REMEMBERED: dict[tuple[Judged, tuple[str, ...]], str] = {}


@dataclass(frozen=True)
class Report:
    """What a judge reports; `trouble` is empty when all tests passed."""

    passed: int = 0
    total: int = 0
    checks: int = 0
    trouble: str = ""
    test: str = ""
    expected: str = ""
    got: str = ""


@cache
def parts(role: str) -> bytes:
    """What a sandbox needs for hearings, as ``judge`` or as ``program``: see :class:`Box`.

    Compiled once: sandboxes run the interpreter of this process.
    """
    pairs = [(_PACKAGE, compile("", "court", "exec"))]
    for name in _JUDGE if role == "judge" else _WITNESS:
        source = (_COURT / f"{name}.py").read_text()
        pairs.append((f"{_PACKAGE}.{name}", compile(source, f"{name}.py", "exec")))
    return marshal.dumps(pairs)


@lru_cache(maxsize=512)
def _code(tests: Judged) -> bytes:
    tree = rewritten(ast.parse(tests.source))
    return marshal.dumps(compile(tree, "tests.py", "exec", dont_inherit=True))


def _job(tests: Judged, *, null: str | None, told: str = "", every: bool = False) -> dict[str, Any]:
    unittest = "unittest" in {name.partition(".")[0] for name in tests.imports}
    return {
        "mode": "serve",
        "part": f"{_PACKAGE}.judge",
        "name": "tests",
        "program": _code(tests),
        "setup": tests.setup,
        "names": list(tests.functions),
        "classes": tests.classes,
        "carries": tests.carries,
        "stops": "StopIteration" in tests.source,
        "modules": list(tests.modules),
        "imports": [*tests.imports, *(["unittest"] if unittest else [])],
        "entry": tests.entry,
        "checked": tests.checked,
        "null": null,
        "told": told,
        "every": every,
    }


def idle(judge: Box, tests: Judged) -> str:
    """Why tests ask nothing of a program, or empty when they ask something.

    They are put to programs that know nothing: every name is there, and every call gives the same
    value. Tests that fail a check for one of these depend on what a program answers. No program
    has a part in this, and so no influence on it.

    Raises:
        BadTests: when they need what a judge does not have.
    """
    key = tests, judge.packages
    if key not in _REMEMBERED:
        if len(_REMEMBERED) > 2000:
            _REMEMBERED.clear()
        _REMEMBERED[key] = _idle(judge, tests)
    return _REMEMBERED[key]


def _idle(judge: Box, tests: Judged) -> str:
    tree = ast.parse(tests.source)
    if plainly_asks(tests, tree):
        return ""
    errors = checks = 0
    alone = False
    for null in ("None", *null_answers(tree)):
        report = _reported(judge.run(_job(tests, null=null), NULL_LIMITS), None)
        if report.trouble == WRONG_ANSWER and (null != "None" or tests.carries):
            return ""
        if report.trouble == WRONG_ANSWER:  # by a comparison of two answers, perhaps of equal ones
            alone = True
            continue
        if "raised ModuleNotFoundError" in report.trouble:
            raise BadTests(
                f"{report.trouble}; the sandbox has Python's own modules, and installed ones that "
                "args name: {packages: [numpy]}; the program is imported as solution"
            )
        errors += bool(report.trouble)
        checks = max(checks, report.checks)
    if errors and (alone or _checks_names(tests, tree)):
        return ""
    if alone:
        return "they compare answers with each other only: compare what a call returns with a value"
    if not checks:
        return (
            "no check runs: name test functions test_..., test classes Test... or derive them "
            "from unittest.TestCase, or call them"
        )
    return "they pass for programs that know nothing: compare what a call returns with a value"


def _checks_names(tests: Judged, tree: ast.Module) -> bool:
    """Whether any check is written where a name of the program is used."""
    names = {*tests.functions, *aliases(ast.walk(tree), tests.modules)}
    for node in ast.walk(tree):
        if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef, ast.Module)):
            parts = list(ast.walk(node))
            used = any(isinstance(part, ast.Name) and part.id in names for part in parts)
            if used and any(_is_check(part) for part in parts):
                return True
    return False


@lru_cache(maxsize=512)
def _counts(tests: Judged) -> bool:
    """Whether a program that is right makes a check run: none is made by raising or leaving."""
    nodes = list(ast.walk(ast.parse(tests.source)))
    by_hand = any(
        isinstance(node, ast.Raise)
        or (isinstance(node, ast.Assert) and isinstance(node.test, ast.Constant))
        or (isinstance(node, ast.Attribute) and node.attr in ("exit", "fail"))
        or (isinstance(node, ast.Name) and node.id in ("exit", "quit", "fail"))
        for node in nodes
    )
    return not by_hand and any(map(_is_counted, nodes))


def _is_counted(node: ast.AST) -> bool:
    match node:
        case ast.Assert():
            return True
        case ast.Call(func=ast.Attribute(attr=name)):
            return name == "raises" or (name.startswith("assert") and name[6:7].isupper())
    return False


def _is_check(node: ast.AST) -> bool:
    match node:
        case ast.Assert() | ast.Raise(exc=ast.expr()):
            return True
        case ast.Call(func=ast.Attribute(attr=name)):
            return name.startswith("assert") or name == "raises"
    return False


def idle_calls(box: Box, calls: Sequence[Call]) -> str:
    """Why calls ask nothing, or empty: they hold without a program, as its names are built-ins."""
    heads = {call.head for call in calls}
    if not heads <= BUILTINS:
        return ""
    grade = by_calls(box, "", calls, NULL_LIMITS, Rules(), every=False)
    return "" if grade.trouble else "they pass without a program: they call built-in functions only"


def by_judge(
    box: Box, judge: Box, program: str, tests: Judged, limits: Limits, *, every: bool = False
) -> Grade:
    """Run trusted test code in one sandbox and the program in another, and carry the calls over.

    A grade of no tests says in its detail why the tests ask nothing.

    Raises:
        BadTests: when the tests need what a judge does not have.
    """
    reason = idle(judge, tests)
    if reason:
        return Grade(passed=0, total=0, detail=reason)
    job = serving(program) | {"part": f"{_PACKAGE}.witness", "names": list(tests.functions)}
    run = box.run(job | {"star": tests.star}, limits)
    opening = run.receive()
    message = message_of(opening) if opening is not None else None
    match message:
        case ["defined", list(pairs)]:
            told = f"[{', '.join(f'({name!r}, {_spelled(value)})' for name, value in pairs)}]"
            court = judge.run(_job(tests, null=None, told=told, every=every), JUDGE_LIMITS)
            report = _reported(court, run)
        case ["raised", *_]:
            report = Report(trouble=_raised(message))
        case _:
            report = Report(trouble="ended")
    end, ending = run.end()
    if not report.trouble and report.total and not report.checks and _counts(tests):
        report = replace(report, passed=0, trouble=WRONG_ANSWER, test="none of the checks ran")
    trouble = report.trouble
    if not trouble and not report.total:
        trouble = "no test ran to its end"
    if trouble == "ended":
        trouble = run.silence or ending or "it ended before it had answered"
    return Grade(
        passed=report.passed,
        total=max(report.total, 1),
        trouble=trouble,
        cpu_s=end.cpu_s,
        detail=shortened(report.test),
        expected=shortened(report.expected),
        got=shortened(report.got),
        limit=end.limit(limits, trouble) if trouble else "",
        checks=report.checks,
    )


def _reported(court: Run, run: Run | None) -> Report:
    """Carry questions and answers until the judge reports.

    Raises:
        BadTests: when the judge refuses the tests.
    """
    try:
        while True:
            statement = court.receive()
            match None if statement is None else message_of(statement):
                case ["report", [passed, total, checks, _], words]:
                    return Report(passed, total, checks, *words)
                case ["refused", str(words)]:
                    raise BadTests(words)
                case [("ask" | "reply") as kind, str(source)] if run is not None:
                    answer = run.ask(f"{kind} {source}" if kind == "ask" else source)
                    court.send("ended" if answer is None else _carried(answer))
                case _:
                    return Report(trouble="the tests took too long")
    finally:
        court.end()


def _carried(answer: bytes) -> str:
    """A program's answer as the judge's side reads it."""
    try:
        match message_of(answer):
            case ["value", value, list(changes), str(printed)]:
                return f"value ({spelled(value)}, {_changed(changes)}, {printed!r})"
            case ["raised", list(kinds), args, str(text), int(line), int(number), changes, printed]:
                names = [str(kind) for kind in kinds] or ["builtins.Exception"]
                told = f"{names!r}, {spelled(args)}, {text!r}, {line}, {number}"
                return f"raised ({told}, {_changed(changes)}, {str(printed)!r})"
            case ["visit", int(number), str(what), str(name), args, kwargs, str(printed)]:
                told = f"{number}, {what!r}, {name!r}, {spelled(args)}, {spelled(kwargs)}"
                return f"visit ({told}, {printed!r})"
    except (NotPlain, RecursionError, ValueError, TypeError):
        pass
    return "value (Opaque(), [], '')"


def _raised(message: Any) -> str:
    """What a program raised while it was defined, in words."""
    match message:
        case ["raised", [str(kind), *_], _, str(text), int(line), *_]:
            words = f"{kind.rpartition('.')[2]}{': ' * bool(text)}{text}"
            return f"raised {words[:300]}{f' (line {line} of the program)' * bool(line)}"
    return "it answered something else than a value"


def _changed(changes: Any) -> str:
    pairs = (f"({int(number)}, {spelled(value)})" for number, value in changes)
    return f"[{', '.join(pairs)}]"


def _spelled(value: Any) -> str:
    try:
        return spelled(value)
    except (NotPlain, RecursionError):
        return "Opaque()"
