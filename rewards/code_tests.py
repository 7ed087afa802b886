"""``builtin:code_tests``: does the program in a completion pass its tests?

The process that runs the program never holds an expected answer and never states the verdict: it
turns inputs into bytes, which are decoded strictly and compared here.
"""

from __future__ import annotations

import re
import threading
from collections.abc import Mapping
from typing import Any

from rewards.api import Reward, Sample, reward
from rewards.sandbox import grade, hearing
from rewards.sandbox.box import Box
from rewards.sandbox.boxed_run import TIMEOUT, Broken, Limits
from rewards.sandbox.kinds import Judged, Stdio, Tests
from rewards.sandbox.tests import read_tests
from rewards.sandbox.ways import Isolation
from rewards.text_format import reasoning_and_answer

VERDICTS = (
    "passed", "wrong_answer", "error", "timeout", "no_code", "no_tests",
)  # fmt: skip

_FENCE = re.compile(
    r"^[ \t]*(```+|~~~+)[ \t]*([\w+#.-]*)[^\n]*\n(.*?)^[ \t]*\1[ \t]*$",
    re.MULTILINE | re.DOTALL,
)
_boxes = threading.local()


@reward(
    version="2",
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
    partial: bool = False,
    entry_point: str | None = None,
    language: str | Mapping[str, Any] = "python",
    isolation: Isolation = "best",
) -> Reward:
    """1.0 when the program passes all its tests, else 0.0, or the share passed with `partial`.

    The program is the last fenced block of code after the reasoning, or all of that text. Its
    tests are in the sample's columns or its gold: see :func:`rewards.sandbox.tests.read_tests`.

    Args:
        cpu_s: CPU seconds per run. A run is one test for standard input and output, else all.
        memory_mib: memory per run in MiB.
        partial: give the share of tests passed.
        entry_point: function under test, for tests that do not name it.
        language: ``python``, ``javascript``, ``c``, or ``{file, commands}`` (standard input only).
        isolation: the best that the machine offers, or ``bubblewrap`` or ``landlock`` alone
            (see :mod:`rewards.sandbox.ways`); ``none`` runs the program with this user's rights.

    Raises:
        NoIsolation: where nothing that `isolation` allows works.
        BadTests: when the tests cannot be read.

    Verdicts: passed, wrong_answer, error, timeout, no_code, and no_tests, which is not scored.
    """
    tests = read_tests(sample.columns, sample.gold, entry_point=entry_point)
    if tests is None:
        return Reward(value=None, verdict="no_tests")
    program = program_in(reasoning_and_answer(sample)[1])
    if not program.strip():
        return Reward(value=0.0, verdict="no_code")
    limits = Limits(cpu_s=cpu_s, memory_mib=memory_mib)
    try:
        result = _graded(program, tests, limits, partial, language, isolation)
    except Broken:  # it says nothing about the program; the next run starts a fresh sandbox
        result = _graded(program, tests, limits, partial, language, isolation)
    return _reward(result, partial=partial)


def program_in(text: str) -> str:
    """The last fenced block of code, or the whole text when there is none."""
    blocks = _FENCE.findall(text[-200_000:])
    return blocks[-1][2] if blocks else text


def _graded(
    program: str,
    tests: Tests,
    limits: Limits,
    partial: bool,
    language: str | Mapping[str, Any],
    isolation: Isolation,
) -> grade.Grade:
    box = _box("program", isolation)
    if isinstance(tests, Judged):
        return hearing.by_judge(box, _box("judge", isolation), program, tests, limits)
    if isinstance(tests[0], Stdio):
        cases = [case for case in tests if isinstance(case, Stdio)]
        return grade.by_stdio(box, program, cases, limits, every=partial, spoken=language)
    if language != "python":
        raise ValueError("calls are tested in Python only; other languages read standard input")
    calls = [case for case in tests if not isinstance(case, Stdio)]
    return grade.by_calls(box, program, calls, limits, every=partial)


def _box(role: str, isolation: Isolation) -> Box:
    """This thread's sandbox for a role, started once."""
    boxes: dict[tuple[str, str], Box] = _boxes.__dict__.setdefault("open", {})
    if (role, isolation) not in boxes:
        boxes[role, isolation] = Box(isolation)
    return boxes[role, isolation]


def _reward(result: grade.Grade, *, partial: bool) -> Reward:
    if not result.trouble:
        verdict = "passed"
    elif result.trouble == TIMEOUT:
        verdict = "timeout"
    else:
        verdict = "wrong_answer" if result.trouble == grade.WRONG_ANSWER else "error"
    share = result.passed / result.total
    detail = {"passed": result.passed, "tests": result.total}
    if result.trouble:
        detail |= {"trouble": result.trouble, "test": result.detail}
    return Reward(
        value=share if partial else float(verdict == "passed"),
        verdict=verdict,
        metrics={"tests_passed": share, "program_cpu_s": result.cpu_s},
        detail=detail,
    )
