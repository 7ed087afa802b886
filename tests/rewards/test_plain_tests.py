"""Tests that are plainly asking: read as calls where that is all, and put to no idle program."""

import ast

import pytest

from rewards.api import Reward, Sample
from rewards.code_tests import code_tests
from rewards.sandbox.asking import plainly_asks
from rewards.sandbox.asserts import from_code
from rewards.sandbox.kinds import Call, Judged

ADD = "def add(a, b):\n    return a + b\n"
HEAD = "import pytest\nfrom solution import add\n\n"
TWO = (
    "def test_one():\n    '''Whole numbers.'''\n    assert add(2, 3) == 5\n"
    "    assert 0 == add(0, 0)\n"
    "\ndef test_two():\n    assert add('a', 'b') == 'ab', 'texts'\n"
)
CASES = (
    "import unittest\nfrom solution import add\nclass TestAdd(unittest.TestCase):\n"
    "    def test_one(self):\n        self.assertEqual(add(2, 3), 5)\n"
    "        self.assertTrue(add(2, -1))\n        self.assertFalse(add(0, 0))\n"
    "    def test_two(self):\n        self.assertIsNone(add(None, 1))\n"
)
METHODS = "class TestAdd:\n    def test_one(self):\n        assert add(2, 3) == 5\n"


def judged(program: str, tests: str, **args: bool) -> Reward:
    return code_tests(Sample(prompt="", completion=program, columns={"test": tests}), **args)  # type: ignore[arg-type]


@pytest.mark.parametrize("tests", [TWO, HEAD + TWO, CASES, METHODS])
def test_plain_tests_are_calls(tests: str) -> None:
    calls = from_code(tests, setup="", entry=None)
    assert isinstance(calls, list)
    assert {call.test for call in calls if isinstance(call, Call)} <= {
        "test_one", "test_two", "TestAdd.test_one", "TestAdd.test_two",
    }  # fmt: skip


@pytest.mark.parametrize(
    "tests",
    [
        TWO + "x = 1\n",
        TWO + "def helper():\n    return add(1, 2)\n",
        TWO.replace("test_two", "test_one"),
        TWO.replace("def test_two", "@pytest.fixture\ndef test_two"),
        TWO.replace("test_two()", "test_two(tmp_path)"),
        TWO.replace("'ab'", "add('a', 'b')"),
        TWO.replace("add(0, 0)", "add(x, 0)"),
        TWO.replace("add(0, 0)", "add(int('0'), 0)"),
        "import numpy\n" + TWO,
        "from solution import add as plus\n" + TWO,
        "from solution import add, subtract\n" + TWO,
        "def test_one():\n    yield\n    assert add(2, 3) == 5\n",
        "def test_one():\n    return\n    assert add(2, 3) == 5\n",
        CASES.replace("    def test_one", "    def setUp(self):\n        pass\n    def test_one"),
        CASES.replace("unittest.TestCase", "Base"),
    ],
)
def test_others_are_left_to_a_judge(tests: str) -> None:
    assert isinstance(from_code(tests, setup="", entry=None), Judged)


ANSWERS = [
    ("sorted(f(3), reverse=True) == [2, 1]", "sorted(f(3), reverse=True)", [2, 1]),
    ("{1, 2} == set(f([3]))", "set(f([3]))", {1, 2}),
    ("f(3)[-1] == 1", "f(3)[-1]", 1),
    ("f('a').strip() == 'b'", "f('a').strip()", "b"),
    ("round(f(3), 2) == 0.67", "round(f(3), 2)", 0.67),
    ("f(3) in (1, 2)", "f(3)", 1),
    ("abs(f(3) - 2.0 / 3.0) < 1e-6", "f(3)", 2 / 3),
    ("math.fabs(0.25 - f(3)) <= 0.1", "f(3)", 0.25),
    ("f(3) == pytest.approx(0.5, rel=1e-3)", "f(3)", 0.5),
    ("f(3) == approx(0.5)", "f(3)", 0.5),
]


@pytest.mark.parametrize(("test", "source", "expected"), ANSWERS, ids=[one[0] for one in ANSWERS])
def test_what_is_expected_does_not_go_over(test: str, source: str, expected: object) -> None:
    (call,) = from_code(f"assert {test}\n", setup="", entry=None)  # type: ignore[misc]
    assert isinstance(call, Call)
    assert (call.source, call.expected, call.head, call.truth) == (source, expected, "f", False)


@pytest.mark.parametrize(
    "test",
    [
        "abs(f(3) - 2) < 5",
        "abs(f(3) - 2) < 0.5",
        "abs(f(3) - g(3)) < 1e-6",
        "f(3) - 1 == 2",
        "len(f(g(3))) == 2",
        "isinstance(f(3), list)",
        "f('a').startswith('b')",
        "f(3).n == 2",
        "f(3) in f(4)",
        "f(3) == approx([0.5])",
        "f(3) == pytest.approx(0.5, abs=1)",
        "f(3) != 2",
        "sorted(f(x), key=x) == [1]",
        "map(f(3)) == [1]",
    ],
)
def test_what_is_more_than_one_answer_is_judged(test: str) -> None:
    assert isinstance(from_code(f"assert {test}\n", setup="", entry=None), Judged)


NAMED = (
    "from solution import *\n\ndef test_it():\n    xs = [3, 1]\n    due = [1, 3]\n    n = 2\n"
    "    result = f(xs, n)\n    assert result == due\n    assert f([], n) == []\n"
)


def test_names_stand_for_what_they_were_given() -> None:
    calls = from_code(NAMED, setup="", entry=None)
    assert [(one.source, one.expected) for one in calls if isinstance(one, Call)] == [  # type: ignore[union-attr]
        ("f([3, 1], 2)", [1, 3]),
        ("f([], 2)", []),
    ]


@pytest.mark.parametrize(
    "tests",
    [
        NAMED.replace("result == due", "result == xs"),
        NAMED.replace("f([], n)", "f(due, n)"),
        NAMED.replace("f([], n) == []", "len(result) == 2"),
        NAMED.replace("    assert result == due\n", ""),
        NAMED.replace("    assert result", "    n = 3\n    assert f(n, n) == n\n    assert result"),
        NAMED.replace("xs = [3, 1]", "xs = f([3], 1)"),
        NAMED.replace("xs = [3, 1]", "xs = [i for i in range(2)]"),
        NAMED.replace("n = 2", "n += 2"),
    ],
)
def test_names_that_are_read_twice_are_judged(tests: str) -> None:
    assert isinstance(from_code(tests, setup="", entry=None), Judged)


WRAPPED = (
    "def test_it():\n    assert sorted(f(4)) == [0, 1, 4, 9]\n    assert f(1) in ([0], (0,))\n"
    "    assert abs(sum(f(3)) - 5.0) < 1e-6\n    assert str(f(2)) == '[0, 1]'\n"
)
SQUARES = "def f(n):\n    return [i * i for i in range(n)]\n"


@pytest.mark.parametrize("head", ["", "sorted = str = None\nsum = 7\n"])
def test_answers_are_looked_at_by_pythons_own(head: str) -> None:
    assert isinstance(from_code(WRAPPED, setup="", entry=None), list)
    assert judged(head + SQUARES, WRAPPED).value == 1.0
    for other in ("[i * i for i in range(n)][1:]", "None", "{i for i in range(n)}", "n"):
        program = SQUARES.replace("[i * i for i in range(n)]", other)
        assert judged(head + program, WRAPPED).value == 0.0


@pytest.mark.parametrize("name", ["sorted", "import builtins\nbuiltins.sorted"])
def test_another_built_in_is_not_asked(name: str) -> None:
    program = f"{name} = lambda xs: [0, 1, 4, 9]\ndef f(n):\n    return [n]\n"
    assert judged(program, "assert sorted(f(4)) == [0, 1, 4, 9]").value == 0.0


@pytest.mark.parametrize(
    ("answer", "value"),
    [("0.6666669", 1.0), ("2 / 3", 1.0), ("0.667", 0.0), ("'0.6666669'", 0.0), ("None", 0.0),
     ("10 ** 400", 0.0), ("float('nan')", 0.0), ("[2 / 3]", 0.0)],
)  # fmt: skip
def test_numbers_may_be_off_by_what_the_test_says(answer: str, value: float) -> None:
    tests = "assert abs(f(3) - 2.0 / 3.0) < 1e-6\nassert f(3) == pytest.approx(2 / 3, abs=1e-6)\n"
    assert judged(f"def f(n):\n    return {answer}\n", tests).value == value


def test_plain_tests_are_counted_by_function() -> None:
    right = judged(ADD, HEAD + TWO)
    assert (right.value, right.detail) == (1.0, {"passed": 2, "tests": 2, "checks": 3})
    wrong = judged("def add(a, b):\n    return a + b if a else 1\n", HEAD + TWO, partial=True)
    assert (wrong.value, wrong.verdict) == (0.5, "wrong_answer")
    words = "line 7: assert 0 == add(0, 0)"
    shown = {name: wrong.detail[name] for name in ("test", "test_number", "expected", "got")}
    assert shown == {"test": words, "test_number": 1, "expected": "0", "got": "1"}
    ended = judged(
        "import os\ndef add(a, b):\n    return os._exit(0) if a == 'a' else a + b\n", TWO
    )
    assert (ended.value, ended.detail["test_number"]) == (0.0, 2)
    assert ended.detail["test"] == "line 7: assert add('a', 'b') == 'ab'"


@pytest.mark.parametrize("tests", [CASES, METHODS])
def test_plain_classes_are_run(tests: str) -> None:
    sums = "def add(a, b):\n    return None if a is None else a + b\n"
    assert judged(sums, tests).value == 1.0
    assert judged("def add(a, b):\n    return a - b\n", tests).verdict == "wrong_answer"


ASKS = [
    "x = 5\nassert add(1, x) == 1 + x\n",
    "import math\nxs = [1, 2]\ny = add(xs, xs)\nassert y == xs * 2\nfor n in y:\n    assert n\n",
    "from solution import add as plus\ndef test_it():\n    assert plus(1, 2) == 3\n",
    "import solution\ndef test_it():\n    assert solution.add(1, 2) == len('abc')\n",
    "import pytest\nif True:\n    pass\ndef test_it():\n    s = Stack()\n    assert s.pop() == 3\n",
    "import unittest\nclass T(unittest.TestCase):\n    def setUp(self):\n        self.n = 1\n"
    "    def test_it(self):\n        self.assertEqual(add(1, 2), 3)\n",
    "x = 5\nassert int(add(1, x)) == 6\n",
]
UNSURE = [
    "def run():\n    assert add(1, 2) == 3\n",
    "def test_it():\n    return\n    assert add(1, 2) == 3\n",
    "def test_it():\n    assert add(1, 2) == 3\n    yield\n",
    "def test_it(n):\n    assert add(1, 2) == 3\n",
    "import pytest\ndef test_it():\n    pytest.skip('later')\n    assert add(1, 2) == 3\n",
    "import pytest\npytestmark = pytest.mark.skip\ndef test_it():\n    assert add(1, 2) == 3\n",
    "def test_it():\n    assert add(1, 2) == 3\ntest_it = 7\n",
    "def test_it():\n    assert add(1, 2) == 3\ndef test_it():\n    add(1, 2)\n",
    "class T:\n    def test_it(self):\n        assert add(1, 2) == 3\n",
    "class TestIt:\n    def __init__(self):\n        pass\n"
    "    def test_it(self):\n        assert add(1, 2) == 3\n",
    "y = add(1, 2)\nassert y == add(1, 2)\n",
    "y = [add(1, 2)]\nassert add(1, 2) == y[0]\n",
    "x = 5\nassert len(add(1, x)) == 6\n",
    "x = 5\nint = len\nassert int(add(1, x)) == 6\n",
    "add = max\nassert add(1, 2) == 2\n",
    "import sys\nsys.exit(0)\nassert add(1, 2) == 3\n",
    "from unittest import mock\nassert add(1, 2) == mock.ANY\n",
    "if False:\n    assert add(1, 2) == 3\n",
    "import numpy\nassert add(1, 2) == 3\n",
]  # fmt: skip


@pytest.mark.parametrize("tests", ASKS + UNSURE)
def test_only_what_surely_asks_is_not_shown_in_a_sandbox(tests: str) -> None:
    read = from_code(tests, setup="", entry=None)
    assert isinstance(read, Judged)
    assert plainly_asks(read, ast.parse(tests)) == (tests in ASKS)
