"""Test code as data sets have it: what pytest and unittest would run is run, and asks something."""

import re
from pathlib import Path
from typing import Any

import pytest

from rewards.api import Reward, Sample
from rewards.code_tests import code_tests
from rewards.sandbox.kinds import BadTests

ADD = "def add(a, b):\n    return a + b\n"
WRONG = "def add(a, b):\n    return a - b\n"
TEXT = Path(__file__).with_name("judged_tests.txt").read_text()
PIECES = dict(re.findall(r"^## (.*)\n((?:(?!## ).*\n)*)", TEXT, re.MULTILINE))


def pieces(kind: str) -> pytest.MarkDecorator:
    return pytest.mark.parametrize("name", [name for name in PIECES if name.startswith(kind)])


def judged(program: str, tests: Any, **columns: Any) -> Reward:
    columns |= {"test": tests}
    return code_tests(Sample(prompt="", completion=program, columns=columns, id="case"))


@pieces("run: ")
def test_what_would_run_is_run(name: str) -> None:
    tests = PIECES[name]
    columns = {"entry_point": "add"} if "candidate" in tests else {}
    right = judged(ADD, tests, **columns)
    assert (right.value, right.verdict) == (1.0, "passed"), right.detail
    wrong = judged(WRONG, tests, **columns)
    assert (wrong.value, wrong.verdict) == (0.0, "wrong_answer"), wrong.detail
    for nothing in ("def add(*a):\n    raise NotImplementedError\n", "x = 1\n"):
        assert judged(nothing, tests, **columns).value == 0.0


@pieces("idle: ")
@pytest.mark.parametrize("program", [ADD, WRONG, "x = 1\n"], ids=["right", "wrong", "nothing"])
def test_tests_that_ask_nothing_score_nobody(name: str, program: str) -> None:
    reward = judged(program, PIECES[name])
    assert (reward.value, reward.verdict) == (None, "no_tests"), reward.detail
    assert reward.detail["reason"]


@pieces("of ")
def test_objects_stay_with_the_program(name: str) -> None:
    program = PIECES["program: " + name.removeprefix("of ").partition(":")[0]]
    reward = judged(program, PIECES[name])
    assert (reward.value, reward.verdict) == (1.0, "passed"), reward.detail
    nothing = judged("x = 1\n", PIECES[name])
    assert nothing.value == 0.0, nothing.verdict


def test_the_detail_says_what_ran_and_what_failed() -> None:
    tests = (
        "import pytest\nfrom solution import add\n"
        "@pytest.mark.parametrize('a, c', [(1, 3), (2, 4), (3, 9)])\n"
        "def test_add(a, c):\n    assert add(a, 2) == c\n    assert c\n"
    )
    detail = judged(ADD, tests).detail
    assert (detail["passed"], detail["tests"], detail["checks"]) == (2, 3, 5)
    assert detail["trouble"] == "wrong answer"
    assert "line 5: assert add(a, 2) == c" in detail["test"]


@pytest.mark.parametrize(
    ("tests", "words"),
    [
        ("import numpy as np\nassert np.all(add(1, 2) == 3)", "packages: [numpy]"),
        ("def test_a(tmp_path):\n    assert add(1, 2) == 3", "share no files"),
        ("def test_a(mocker):\n    assert add(1, 2) == 3", "unittest.mock"),
        ("def test_a(pair):\n    assert add(*pair) == 3", "under @pytest.fixture"),
        ("def check(f):\n    assert f(1, 2) == 3", "need an entry_point"),
        ("def test_a(:\n    pass", "does not parse"),
        ("import pytest\ndef test_a():\n    pytest.warns(UserWarning, add, 1, 2)", "warns"),
    ],
)  # fmt: skip
def test_what_a_judge_cannot_do_is_refused_with_what_to_write(tests: str, words: str) -> None:
    with pytest.raises(BadTests, match=re.escape(words)):
        judged(ADD, tests)


def test_a_refusal_in_the_middle_leaves_nothing_to_the_next_row() -> None:
    looking = (
        "import inspect\ndef test_a():\n"
        "    assert list(inspect.signature(add).parameters) == ['a', 'b']\n"
    )
    for _ in range(2):
        with pytest.raises(BadTests, match="signature"):
            judged(ADD, looking)
        assert judged(ADD, "assert add(1, 2) == 3").value == 1.0
        assert judged(ADD, "def test_a():\n    assert add(1, 2) == 3").value == 1.0
        leaving = judged("import sys\nsys.exit(3)", "assert add(1, 2) == 3")
        assert (leaving.value, leaving.verdict) == (0.0, "error")


@pytest.mark.parametrize(
    ("program", "words"),
    [
        ("def add(a, b:\n", "SyntaxError: '(' was never closed (line 1 of the program)"),
        ("import os\ndef add(a, b): os._exit(1)\n", "exit code 1"),
        ("import os, signal\ndef add(a, b): os.kill(os.getpid(), signal.SIGSEGV)\n", "a crash"),
        ("def add(a, b):\n    return a / 0\n", "ZeroDivisionError: division by zero (line 2 of"),
    ],
)
def test_troubles_are_in_words(program: str, words: str) -> None:
    tests = "from solution import add\ndef test_a():\n    assert add(1, 2) == 3\n"
    detail = judged(program, tests).detail
    assert words in detail["trouble"]


@pytest.mark.parametrize(
    ("value", "words"),
    [("object()", "a object"), ("lambda: 3", "a function"), ("g()", "a coroutine")],
)
def test_what_is_no_plain_data_is_named(value: str, words: str) -> None:
    program = f"async def g(): return 3\ndef add(a, b): return {value}\n"
    detail = judged(program, "assert add(1, 2) == 3").detail
    assert (detail["expected"], detail["got"]) == ("3", f"{words}, which is no plain data")
