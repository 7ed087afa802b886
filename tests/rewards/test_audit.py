"""The audit's documents, and that our own verifiers pass it."""

import json
from dataclasses import replace
from pathlib import Path

import pytest

from rewards import RewardNotFound, Sample, audit
from rewards.attacks import mutations
from rewards.cases import BadCases, Case, read_cases
from rewards.math_compare import compare

DATA = Path(__file__).resolve().parents[2] / "../shared/data"
ROWS = [
    {"id": "a", "gold": "7", "pred": "\\boxed{7}", "expected": True},
    {"id": "b", "gold": "7", "pred": "\\boxed{8}", "expected": False},
    {"id": "c", "gold": "7", "pred": "sieben", "expected": True},
    {"id": "d", "gold": "7", "pred": "7.0", "expected": None},
]
NAIVE = """
import itertools
calls = itertools.count()

def contains(sample):
    return float(sample.gold in sample.completion)

def moody(sample):
    return float(next(calls) % 2 == 0 and sample.id != 'b')
"""


def cases() -> list[Case]:
    samples = [Sample(prompt="", completion=r["pred"], gold=r["gold"], id=r["id"]) for r in ROWS]
    return [Case(s, row["expected"]) for s, row in zip(samples, ROWS, strict=True)]


@pytest.fixture
def base(tmp_path: Path) -> Path:
    (tmp_path / "mine.py").write_text(NAIVE)
    return tmp_path


@pytest.mark.parametrize("form", ["lines", "list"])
def test_cases_from_a_file(tmp_path: Path, form: str) -> None:
    text = json.dumps(ROWS) if form == "list" else "\n".join(map(json.dumps, ROWS))
    path = tmp_path / "cases"
    path.write_text(text)
    assert read_cases(path) == cases()


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ('{"pred": "7"}\n{', ":2: not JSON"),
        ('{"gold": "7"}', ":1: a case needs pred"),
        ('{"pred": "7", "expected": "yes"}', ":1: expected is true, false or null"),
        ("[1]", "case 1: a case is a JSON object"),
    ],
)
def test_bad_cases_are_named(tmp_path: Path, text: str, said: str) -> None:
    (tmp_path / "cases").write_text(text)
    with pytest.raises(BadCases, match=said):
        read_cases(tmp_path / "cases")


def test_golds_of_rows_with_reasoning_are_what_follows_their_mark(tmp_path: Path) -> None:
    path = tmp_path / "rows.jsonl"
    path.write_text('{"question": "2 + 3?", "answer": "Five.\\n#### 5"}\n')
    (only,) = read_cases(path, answered=False)
    assert only.sample.gold == "5"
    path.write_text(path.read_text() + '{"question": "#?", "answer": "a plain one"}\n')
    assert [one.sample.gold for one in read_cases(path, answered=False)] == [
        "Five.\n#### 5",
        "a plain one",
    ]


def test_precision_and_recall(tmp_path: Path) -> None:
    out = tmp_path / "out.jsonl"
    found = audit.try_cases("builtin:math_answer", cases(), out=out)
    assert (found["n"], found["precision"], found["recall"]) == (4, 1.0, 0.5)
    assert [row["id"] for row in found["wrong"]] == ["c"]
    assert found["verdicts"] == {"correct": 2, "wrong": 2}
    assert found["deterministic"]
    assert 0 < found["max_rss_mb"] < 512
    lines = [json.loads(line) for line in out.read_text().splitlines()]
    assert [line["id"] for line in lines] == ["a", "b", "c", "d"]
    assert set(lines[0]) == {"id", "value", "verdict", "cpu_s"}
    json.dumps(found)


def test_memory_of_earlier_samples_shows(base: Path) -> None:
    rows = [*cases(), *cases()]
    assert audit.try_cases("mine.py:contains", rows, base=base)["deterministic"]
    first = audit.try_cases("mine.py:moody", rows[:3], base=base)
    assert first["precision"] is not None


def test_attack_finds_the_holes_of_a_naive_reward(base: Path) -> None:
    found = audit.attack("mine.py:contains", cases(), base=base)
    assert {"negated", "right, then changed"} <= {hole["attack"] for hole in found["paid"]}
    json.dumps(found)


@pytest.mark.parametrize("name", ["math_answer", "exact_match"])
def test_own_verifiers_pay_nothing(name: str) -> None:
    found = audit.attack(f"builtin:{name}")
    assert found["tried"] > 200
    assert (found["paid"], found["infra_errors"]) == ([], 0)


def test_code_tests_pay_no_cheat() -> None:
    found = audit.attack("builtin:code_tests", args={"isolation": "none"})
    assert found["tried"] > 20
    assert found["paid"] == []


@pytest.mark.skipif(not DATA.exists(), reason="the shared data is not here")
@pytest.mark.slow
def test_nothing_is_paid_on_real_golds() -> None:
    lines = (DATA / "math500/test.jsonl").read_text().splitlines()
    rows = [Sample(prompt="", completion="", gold=json.loads(line)["answer"]) for line in lines]
    found = audit.attack("builtin:math_answer", [Case(row, None) for row in rows], limit=500)
    assert found["tried"] > 10_000
    assert found["paid"] == []


def test_a_formula_is_a_gold_and_no_test() -> None:
    """Each is also Python's; beside rows with tests, texts are still offered."""
    golds = ("p - q", "(a+5)(b+2)", "x^5 - x^4 + x", "y = x - 1")
    formulas = [Case(Sample(prompt="", completion="", gold=gold, id=gold), None) for gold in golds]
    program = Case(Sample(prompt="", completion="", gold="assert add(2, 3) == 5", id="add"), None)
    alone = audit.attack("builtin:math_answer", formulas)
    assert alone["tried"] > 100
    assert alone["paid"] == []
    beside = audit.attack("builtin:math_answer", [*formulas, program])
    assert beside["tried"] > alone["tried"] + 10


def test_golds_of_nothing_and_of_a_letter() -> None:
    """What is 0 times words, and a letter with another answer, are paid by no gold."""
    golds = ("0", "\\text{(C)}", "1")
    rows = [Case(Sample(prompt="", completion="", gold=gold, id=gold), None) for gold in golds]
    assert audit.attack("builtin:math_answer", rows)["paid"] == []


def test_mutations_differ() -> None:
    for gold in ("7", "\\frac{1}{2}", "3.5", "(1,2)", "x^2+1"):
        for kind, text in mutations(gold):
            assert compare(gold, text).verdict != "correct", (gold, kind, text)


def test_explain() -> None:
    found = audit.explain("builtin:math_answer", cases()[0].sample)
    assert found["detail"]["rule"] == "identical text"
    assert found["function"]["isolation"] == "process"
    json.dumps(found)


def test_bench() -> None:
    found = audit.bench("builtin:math_answer", seconds=0.3)
    assert found["checks_per_s_per_core"] > 0
    assert found["isolation"] == "process"


def test_diff(base: Path) -> None:
    samples = [case.sample for case in cases()]
    found = audit.diff("mine.py:contains", "builtin:math_answer", samples, base=base)
    assert (found["n"], found["changed"]) == (4, [])
    extra = Sample(prompt="", completion="\\boxed{17}", gold="7", id="e")
    found = audit.diff("mine.py:contains", "builtin:math_answer", [*samples, extra], base=base)
    assert [row["id"] for row in found["changed"]] == ["e"]


def test_unknown_reward_is_refused() -> None:
    with pytest.raises(RewardNotFound):
        audit.attack("builtin:maths")


def test_wrong_cases_are_counted_by_kind(base: Path) -> None:
    assert "by_kind" not in audit.try_cases("mine.py:contains", cases(), base=base)
    kinds = ["sums", "sums", "words", "words"]
    labelled = [
        Case(replace(case.sample, columns={"kind": kind}), case.expected)
        for case, kind in zip(cases(), kinds, strict=True)
    ]
    table = audit.try_cases("mine.py:contains", labelled, base=base)["by_kind"]
    assert table == {"sums": {"n": 2, "wrong": 0}, "words": {"n": 2, "wrong": 1}}
