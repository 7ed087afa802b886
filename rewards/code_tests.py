"""``builtin:code_tests``: does the program in a completion pass its tests?

The process that runs the program never holds an expected answer and never states the verdict: it
turns inputs into bytes, which are decoded strictly and compared here.
"""

from __future__ import annotations

import atexit
import math
import re
import threading
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from rewards.api import Reward, Sample, reward
from rewards.newer_syntax import newer_syntax
from rewards.program_text import Wanted, program_in
from rewards.sandbox import grade, hearing
from rewards.sandbox.box import Box
from rewards.sandbox.boxed_run import TIMEOUT, Broken, Limits
from rewards.sandbox.kinds import Call, Judged, Referenced, Sourced, Stdio, Tests
from rewards.sandbox.languages import readable
from rewards.sandbox.same import COMPARE, Compare, Rules
from rewards.sandbox.tests import read_tests
from rewards.sandbox.ways import Isolation
from rewards.text_format import reasoning_and_answer

VERDICTS = (
    "passed", "wrong_answer", "error", "timeout", "no_code", "no_tests",
)  # fmt: skip

_boxes = threading.local()


@dataclass(frozen=True, kw_only=True)
class _Setting:
    """How a program is run and its answers compared."""

    limits: Limits
    rules: Rules
    partial: bool
    language: str | Mapping[str, Any]
    isolation: Isolation
    packages: tuple[str, ...]


@reward(
    version="3",
    isolation="process",
    cpu_s=60.0,
    wall_s=600.0,
    memory_mb=1024,
    deterministic=True,
    verdicts=VERDICTS,
)
def code_tests(
    sample: Sample,
    *,
    cpu_s: float = 5.0,
    memory_mib: int = 512,
    output_mib: float = 1.0,
    partial: bool = False,
    entry_point: str | None = None,
    changed_argument: int | None = None,
    compare: Compare = "lines",
    tolerance: float | None = None,
    language: str | Mapping[str, Any] = "python",
    packages: Sequence[str] = (),
    isolation: Isolation = "best",
) -> Reward:
    """1.0 when the program passes all its tests, else 0.0, or the share passed with `partial`.

    The program is the last fenced block of code after the reasoning that defines what is tested
    (see :mod:`rewards.program_text`). Its tests are in the sample's columns or its gold: see
    :func:`rewards.sandbox.tests.read_tests`.

    Args:
        cpu_s: CPU seconds per run. A run is one test for standard input and output, else all.
        memory_mib: memory per run in MiB.
        output_mib: what a run may print, or answer to one call, in MiB.
        partial: give the share of tests passed.
        entry_point: function under test, for tests that do not name it.
        changed_argument: the argument, from 0, that a function changes in place: its value after
            the call is what is expected, for cases that do not say so.
        compare: standard output by ``lines``, ``tokens`` or ``exact`` characters.
        tolerance: how far numbers may be off, absolute or relative, instead of what
            :class:`rewards.sandbox.same.Rules` allows.
        language: ``python``, ``javascript``, ``c``, ``cpp``, ``go``, or ``{file, commands}``.
        packages: installed packages that programs and tests may import, such as ``[numpy]``.
        isolation: the best that the machine offers, or ``bubblewrap`` or ``landlock`` alone
            (see :mod:`rewards.sandbox.ways`); ``none`` runs the program with this user's rights.

    Raises:
        NoIsolation: where nothing that `isolation` allows works.
        BadTests: when the tests cannot be read.
        ValueError: for an argument that is none of those above.

    Verdicts: passed, wrong_answer, error, timeout, no_code, and no_tests, which is not scored.
    """
    if compare not in COMPARE:
        raise ValueError(f"compare is one of {', '.join(COMPARE)}, not {compare!r}")
    gold = list(sample.golds) or sample.gold
    tests = read_tests(
        sample.columns,
        gold,
        entry_point=entry_point,
        changed=changed_argument,
        language=language if isinstance(language, str) else "",
    )
    if tests is None:
        return Reward(value=None, verdict="no_tests")
    program = program_in(reasoning_and_answer(sample)[1], _wanted(tests, sample, language))
    if not program.strip():
        return Reward(value=0.0, verdict="no_code")
    setting = _Setting(
        limits=Limits(
            cpu_s=_number("cpu_s", cpu_s),
            memory_mib=int(_number("memory_mib", memory_mib)),
            output_mib=_number("output_mib", output_mib),
        ),
        rules=Rules(
            compare=compare,
            tolerance=None if tolerance is None else _number("tolerance", tolerance),
        ),
        partial=partial,
        language=language,
        isolation=isolation,
        packages=tuple(packages),
    )
    result = _graded_in_peace(program, tests, setting)
    if "SyntaxError" in result.trouble and setting.language == "python":
        newer = newer_syntax(program)
        result = replace(result, trouble=f"{result.trouble}{': ' * bool(newer)}{newer}")
    return _reward(result, partial=partial)


def _graded_in_peace(program: str, tests: Tests, setting: _Setting) -> grade.Grade:
    """Once more where the sandbox died, which says nothing about the program, or a signal ended the
    program: somebody else's says nothing about it either, and its own it sends again."""
    before = _disturbed()
    try:
        result = _graded(program, tests, setting)
    except Broken:  # the next run starts a fresh sandbox
        return _graded(program, tests, setting)
    return result if _disturbed() == before else _graded(program, tests, setting)


def _number(name: str, value: float | str) -> float:
    """An argument as a number; YAML 1.1 reads ``1e-6``, without a point, as text."""
    try:
        number = float(value)
    except (TypeError, ValueError):
        number = math.nan
    if not (math.isfinite(number) and number >= 0):
        raise ValueError(f"{name} is {value!r}; write a number from 0, such as 1.0e-6")
    return number


def _wanted(tests: Tests, sample: Sample, language: str | Mapping[str, Any]) -> Wanted:
    """What the tests ask a program for."""
    spoken = language if isinstance(language, str) else ""
    prompt = sample.columns.get("prompt") or sample.prompt
    prompt = prompt if isinstance(prompt, str) else ""
    if isinstance(tests, Judged):
        names = (tests.entry,) if tests.entry else tests.functions
        return Wanted(names=_words(names), language=spoken, prompt=prompt)
    if isinstance(tests, Referenced):
        return Wanted(names=(tests.function,), language=spoken, prompt=prompt)
    if isinstance(tests, Sourced):
        return Wanted(language=spoken)
    if isinstance(tests[0], Stdio):
        reads = any(isinstance(case, Stdio) and case.input.strip() for case in tests)
        return Wanted(reads=reads, language=spoken)
    heads = [case.head for case in tests if isinstance(case, Call)]
    return Wanted(names=_words(heads), language=spoken, prompt=prompt)


def _words(sources: Sequence[str]) -> tuple[str, ...]:
    """The name that each call begins with, in order; of a method, the class."""
    heads = (re.match(r"\w+", source) for source in sources)
    return tuple(dict.fromkeys(head[0] for head in heads if head))


def _graded(program: str, tests: Tests, setting: _Setting) -> grade.Grade:
    box = _box("program", setting)
    limits, rules, every = setting.limits, setting.rules, setting.partial
    if isinstance(tests, Judged):
        return hearing.by_judge(box, _box("judge", setting), program, tests, limits, every=every)
    if isinstance(tests, Referenced):
        judge = _box("judge", setting)
        return grade.by_reference(box, judge, program, tests, limits, rules, every=every)
    if isinstance(tests, Sourced):
        return grade.by_source(box, program, tests, limits)
    if isinstance(tests[0], Stdio):
        cases = [case for case in tests if isinstance(case, Stdio)]
        return grade.by_stdio(
            box, program, cases, limits, rules, every=every, spoken=setting.language
        )
    if setting.language != "python":
        raise ValueError("calls are tested in Python only; other languages read standard input")
    calls = [case for case in tests if isinstance(case, Call)]
    reason = hearing.idle_calls(box, calls)
    if reason:
        return grade.Grade(passed=0, total=0, detail=reason)
    return grade.by_calls(box, program, calls, limits, rules, every=every)


def _box(role: str, setting: _Setting) -> Box:
    """This thread's sandbox for a role, started once."""
    boxes: dict[tuple[Any, ...], Box] = _boxes.__dict__.setdefault("open", {})
    shown = readable(setting.language) if role == "program" else ()
    key = (role, setting.isolation, setting.packages, shown)
    if key not in boxes:
        if not boxes:
            atexit.register(_close, boxes)
        parts = hearing.parts(role)
        boxes[key] = Box(setting.isolation, packages=setting.packages, readable=shown, parts=parts)
    return boxes[key]


def _disturbed() -> int:
    """Runs in this thread's sandboxes that somebody ended or stopped."""
    return sum(box.disturbed for box in _boxes.__dict__.get("open", {}).values())


def _close(boxes: dict[tuple[Any, ...], Box]) -> None:
    """End the sandboxes and wait for them, so that none is left to whoever adopts orphans."""
    for box in boxes.values():
        box.close()


def _reward(result: grade.Grade, *, partial: bool) -> Reward:
    if not result.total:
        return Reward(value=None, verdict="no_tests", detail={"reason": result.detail})
    if not result.trouble:
        verdict = "passed"
    elif result.trouble == TIMEOUT:
        verdict = "timeout"
    else:
        verdict = "wrong_answer" if result.trouble == grade.WRONG_ANSWER else "error"
    share = result.passed / result.total
    detail: dict[str, Any] = {"passed": result.passed, "tests": result.total}
    if result.checks is not None:
        detail["checks"] = result.checks
    if result.trouble:
        words = {"trouble": result.trouble, "test": result.detail, "limit": result.limit}
        words |= {"test_number": result.number, "expected": result.expected, "got": result.got}
        detail |= {name: word for name, word in words.items() if word}
    return Reward(
        value=share if partial else float(verdict == "passed"),
        verdict=verdict,
        metrics={"tests_passed": share, "program_cpu_s": result.cpu_s},
        detail=detail,
    )
