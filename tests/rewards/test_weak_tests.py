"""Programs that do nothing are offered to the tests of a row, and idle tests to rewards."""

import json
from pathlib import Path
from typing import Any

import pytest

from rewards import Sample, audit
from rewards.cases import Case
from rewards.idle_tests import SHAPES, idle_attacks
from rewards.lazy_programs import lazy_programs, paid_for_nothing
from rewards.pool import Pool

RIGHT = "def f(n):\n    return n > 0\n"
ROWS: list[tuple[dict[str, Any], str]] = [
    ({"test_list": ["assert f(1) == True", "assert f(2)"]}, "always returns True"),
    ({"test_list": ["assert f(0) == False"]}, "always returns False"),
    ({"test": "def test_f():\n    assert f(0) in (None, 1)"}, "does nothing"),
    ({"test": "def check(candidate):\n    assert candidate(0) == []\n", "entry_point": "f"}, "[]"),
    ({"tests": [{"function": "f", "args": [1], "expected": 0}]}, "returns 0"),
    ({"test": "import unittest\nclass T(unittest.TestCase):\n    def test_f(self):\n"
      "        self.assertIsNotNone(f(1))"}, "True"),
    ({"tests": [{"input": "3", "output": "YES\n"}]}, "only prints 'YES'"),
    ({"tests": [{"input": "3", "output": ""}]}, "does nothing"),
    ({"test": "s = Stack()\nassert isinstance(s, Stack)"}, "classes without a body"),
    ({"test_list": ["assert f(1) == True", "assert f(0) == False"]}, ""),
    ({"test_list": ["assert f(1)", "assert not f(0)"]}, ""),
    ({"test": "def test_f():\n    assert f(1)\n    assert not f(0)"}, ""),
    ({"tests": [{"input": "3", "output": "YES"}, {"input": "0", "output": "NO"}]}, ""),
    ({"test": "def test_f(:"}, ""),
    ({}, ""),
]  # fmt: skip


def test_rows_that_pay_a_program_which_does_nothing_are_named() -> None:
    samples = [
        Sample(prompt="", completion="", gold=None, columns=columns, id=str(number))
        for number, (columns, _) in enumerate(ROWS)
    ]
    with Pool(1) as pool:
        weak = paid_for_nothing(pool, samples, "builtin:code_tests")
        assert paid_for_nothing(pool, samples, "builtin:math_answer") == {}
    for number, (columns, words) in enumerate(ROWS):
        problem = weak.get(str(number), "")
        assert bool(problem) == bool(words), columns
        assert words in problem, columns


def test_what_calls_refuse_as_written_is_not_run() -> None:
    assert lazy_programs({"test_list": ["assert f(1) == 5"]}, None) == []
    assert len(lazy_programs({"test_list": ["assert f(1) == 0"]}, None)) == 2  # 0 and False


NAIVE = """
from rewards.api import reward

@reward(version="1", cpu_s=0.5)
def naive(sample):
    space = {}
    try:
        exec(sample.completion + "\\n" + (sample.gold or sample.columns["test"]), space)
    except BaseException:
        return 0.0
    return 1.0
"""
CASES = [
    Sample(prompt="", completion="", gold="assert f(1) == 3\nassert f(2) == 5", id="gold"),
    Sample(
        prompt="", completion="", gold=None, id="judged",
        columns={"test": "from solution import f\ndef test_f():\n    assert f(1) == 3\n"},
    ),
    Sample(
        prompt="", completion="", gold=None, id="check",
        columns={"test": "def check(c):\n    for n in (1, 2):\n        assert c(n) == 2 * n + 1\n",
                 "entry_point": "f"},
    ),
]  # fmt: skip


def test_attacks_with_tests_that_ask_nothing(tmp_path: Path) -> None:
    (tmp_path / "mine.py").write_text(NAIVE)
    cases = [Case(sample, True) for sample in CASES]
    assert all(len(list(idle_attacks(sample))) == len(SHAPES) for sample in CASES)
    outcome = audit.attack("mine.py:naive", cases[:1], base=tmp_path)
    kinds = {hole["attack"] for hole in outcome["paid"]}
    for shape in ("a test function", "a unittest class", "under a main guard", "an empty loop"):
        assert f"tests that ask nothing: {shape}" in kinds
    ours = audit.attack("builtin:code_tests", cases, args={"cpu_s": 0.5})  # some never end
    assert (ours["paid"], ours["infra_errors"]) == ([], 0)
    assert ours["tried"] > 3 * len(SHAPES)


@pytest.mark.parametrize("sample", [
    Sample(prompt="", completion="", gold="7"),
    Sample(prompt="", completion="", columns={"tests": [{"input": "", "output": "1"}]}),
    Sample(prompt="", completion="", columns={"test": "def ("}),
])  # fmt: skip
def test_other_rows_have_no_such_attacks(sample: Sample) -> None:
    assert list(idle_attacks(sample)) == []


def test_data_check_names_rows_whose_tests_are_weak_or_idle(tmp_path: Path) -> None:
    from pipeline.cli.data_check import check_data
    from pipeline.recipe.load import load_recipe

    rows = [
        {"q": "even?", "code": "def even(n): return n % 2 == 0", "test": "assert even(2)"},
        {"q": "odd?", "code": "def odd(n): return n % 2", "test": "def run(): assert odd(1) == 1"},
        {"q": "add", "code": "def add(a, b): return a + b", "test": "assert add(1, 2) == 3"},
    ]
    (tmp_path / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    (tmp_path / "r.yaml").write_text(
        "name: r\nmodel: {path: m}\n"
        "prompts: {p: {file: rows.jsonl, columns: {question: q, answer: code}}}\n"
        "rewards: {answer: {use: 'builtin:code_tests'}}\n"
        "stages: {e: {kind: evaluate, models: [base], prompts: p, max_tokens: 64}}\n"
    )
    check = check_data(load_recipe(str(tmp_path / "r.yaml")))
    (entry,) = check.entries
    assert not check.is_sound
    assert entry["checked"].endswith("wrong under answer: 1, weak tests: 1")
    assert [row["row"] for row in entry["problems"]] == [1, 2]
    assert "always returns True" in entry["problems"][0]["problem"]
    assert "ask nothing: no check runs" in entry["problems"][1]["problem"]
