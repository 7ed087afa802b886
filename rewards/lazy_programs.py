"""Programs that do nothing, to see whether the tests of a row ask enough.

A row whose tests pay one of these teaches a policy to write it.
"""

from __future__ import annotations

import keyword
import re
from collections.abc import Iterable, Iterator, Mapping
from concurrent.futures import Future
from typing import Any

from rewards.api import Reward, Sample
from rewards.pool import Pool
from rewards.sandbox.kinds import BadTests, Call, Judged, PythonTests, Referenced, Sourced, Stdio
from rewards.sandbox.same import Rules, same_value
from rewards.sandbox.tests import read_tests

CONSTANTS: tuple[Any, ...] = (None, True, False, 0, 1, "", [])
PRINTED = ("", "0", "1", "YES", "NO")
FULL_MARKS = 1.0


def lazy_programs(
    columns: Mapping[str, Any], gold: str | None, *, entry_point: str | None = None
) -> list[tuple[str, str]]:
    """(what it does, program) of programs that do nothing and that the tests of a row may pay.

    Left out are those that calls with plain values refuse as they are written. Empty for a row
    without tests of programs, and for tests that cannot be read.
    """
    try:
        tests = read_tests(columns, gold, entry_point=entry_point)
    except BadTests:
        return []
    if not tests or isinstance(tests, Sourced):
        return []
    if isinstance(tests, (Judged, Referenced)) or not isinstance(tests[0], Stdio):
        return list(_constant(tests))
    outputs = [case.expected for case in tests if isinstance(case, Stdio)]
    return [
        (f"only prints {text!r}" if text else "does nothing", f"print({text!r}, end='')")
        for text in PRINTED
        if all(due.split() == text.split() for due in outputs)
    ]


def _constant(tests: PythonTests) -> Iterator[tuple[str, str]]:
    """Programs in which every name that is tested gives the same value."""
    names = sorted(name for name in _names(tests) if name.isidentifier())
    names = [name for name in names if not keyword.iskeyword(name)]
    if not names:
        return
    if isinstance(tests, Judged) and tests.classes:
        yield "has classes without a body", "".join(f"class {name}: pass\n" for name in names)
    for value in CONSTANTS:
        if not isinstance(tests, (Judged, Referenced)) and not _may_hold(tests, value):
            continue
        words = "does nothing" if value is None else f"always returns {value!r}"
        body = "pass" if value is None else f"return {value!r}"
        yield words, "".join(f"def {name}(*args, **kwargs):\n    {body}\n" for name in names)
    if isinstance(tests, Judged) and re.search(r"[Rr]aises|except", tests.source):
        body = "raise ValueError"
        yield "always fails", "".join(f"def {n}(*args, **kwargs):\n    {body}\n" for n in names)


def _names(tests: PythonTests) -> set[str]:
    if isinstance(tests, Judged):
        return set(tests.functions)
    if isinstance(tests, Referenced):
        return {tests.function}
    return {case.head for case in tests if isinstance(case, Call)} - {""}


def _may_hold(tests: Iterable[Any], value: Any) -> bool:
    """Whether a program that always answers `value` may pass; not for certain."""
    for case in tests:
        if case.tested or not re.fullmatch(r"\w+\(.*\)", case.source, re.DOTALL):
            continue  # more than a call
        if case.truth:
            same = bool(value) == bool(case.expected)
        else:
            expected = (case.expected, *case.others)
            same = any(same_value(value, due, Rules(), json=case.json) for due in expected)
        if not same:
            return False
    return True


def idle_tests(reward: Reward) -> str:
    """What is wrong with tests that score nobody; empty for others."""
    reason = reward.detail.get("reason") if reward.verdict == "no_tests" else None
    return f"the tests ask nothing: {reason}" if reason else ""


def paid_for_nothing(
    pool: Pool, samples: Iterable[Sample], use: str, *, args: Mapping[str, Any] | None = None
) -> dict[str, str]:
    """What is wrong with the tests of those samples that pay a program which does nothing, by id.

    Only ``builtin:code_tests`` judges programs; for any other reward there are none.
    """
    if use != "builtin:code_tests":
        return {}
    entry = (args or {}).get("entry_point")
    offers: list[tuple[str, str, Future[Reward]]] = []
    for sample in samples:
        for words, program in lazy_programs(sample.columns, sample.gold, entry_point=entry):
            lazy = Sample(
                prompt=sample.prompt,
                completion=f"```python\n{program}```",
                gold=sample.gold,
                columns=sample.columns,
                id=f"{sample.id}, {words}",
            )
            offers.append((sample.id, words, pool.submit(use, lazy, args=args)))
    weak: dict[str, list[str]] = {}
    for name, words, future in offers:
        if future.result().value == FULL_MARKS:
            weak.setdefault(name, []).append(words)
    return {
        name: f"the tests pay a program that {kinds[0]}: add tests with other answers"
        for name, kinds in weak.items()
    }
