"""Attacks on what runs tests: the tests of a row in shapes that a plain ``exec`` never runs.

``exec(program + tests)`` raises nothing for a test function that nobody calls, so it pays any
program. Each shape comes with a program that does nothing, which deserves nothing.
"""

from __future__ import annotations

import textwrap
from collections.abc import Iterator
from dataclasses import replace

from rewards.api import Sample
from rewards.sandbox.kinds import BadTests, Call, Judged, Referenced, Sourced
from rewards.sandbox.tests import NAMES, read_tests

SHAPES = {
    "a test function": "def test_it():\n{body}",
    "a function of asserts": "def run():\n{body}",
    "a function of its own name": "from solution import {name}\n\ndef test_{name}():\n{body}",
    "a class of tests": "class TestIt:\n    def test_it(self):\n{inner}",
    "a unittest class": (
        "import unittest\nclass T(unittest.TestCase):\n    def test_it(self):\n{inner}"
    ),
    "under a main guard": "if __name__ == '__main__':\n{body}",
    "an empty loop": "for _ in []:\n{body}",
    "never true": "if False:\n{body}",
    "after an exit": "import sys\nsys.exit(0)\n{plain}",
    "caught": "try:\n{body}\nexcept Exception:\n    pass",
    "a coroutine that nobody awaits": "async def run():\n{body}\nrun()",
    "a generator that nobody reads": "def run():\n{body}\n    yield\nrun()",
    "expected to fail": "import pytest\n@pytest.mark.xfail\ndef test_it():\n{body}",
    "skipped": "import pytest\n@pytest.mark.skip\ndef test_it():\n{body}",
    "no parameters": "import pytest\n@pytest.mark.parametrize('n', [])\ndef test_it(n):\n{body}",
    "a tuple": "assert ({name}() == 271828, 'a message')",
    "an answer and itself": "assert {name}() == {name}()",
    "a call without a comparison": "try:\n    {name}()\nexcept TypeError:\n    pass",
    "a true statement": "assert callable({name})\nassert 1 == 1",
}
"""By name; NAME is called in the body, which stands there plain or indented by four or eight."""


def idle_attacks(sample: Sample) -> Iterator[tuple[str, Sample]]:
    """(kind, sample) of the tests of `sample` in each shape, with a program that does nothing.

    None for tests that are no code and no calls.
    """
    try:
        tests = read_tests(sample.columns, sample.gold, entry_point=None)
    except BadTests:
        return
    if isinstance(tests, Sourced):
        return
    if isinstance(tests, Judged):
        name, body = tests.entry or next(iter(tests.functions), ""), tests.source
    elif tests and not isinstance(tests, Referenced) and isinstance(tests[0], Call):
        calls = [case for case in tests if isinstance(case, Call)]
        name = calls[0].head
        body = "\n".join(f"assert {call.source} == {call.expected!r}" for call in calls)
    else:
        return
    if not name.isidentifier():
        return
    program = f"def {name}(*args, **kwargs):\n    return 'nothing'\n"
    for kind, shape in SHAPES.items():
        text = shape.format(
            name=name,
            plain=body,
            body=textwrap.indent(body, "    "),
            inner=textwrap.indent(body, "        "),
        )
        yield f"tests that ask nothing: {kind}", _with_tests(sample, text, program, kind)


def _with_tests(sample: Sample, tests: str, program: str, kind: str) -> Sample:
    column = next((name for name in NAMES if sample.columns.get(name)), None)
    columns = {**sample.columns, column: tests} if column else sample.columns
    gold = sample.gold if column else tests
    name = f"{sample.id}, tests that ask nothing: {kind}"
    return replace(sample, completion=program, columns=columns, gold=gold, id=name)
