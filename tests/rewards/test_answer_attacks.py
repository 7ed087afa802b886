"""Attacks made of golds: plain rewards pay each kind, ours pays none."""

import json
from pathlib import Path

import pytest

from rewards import Sample, audit
from rewards.answer_attacks import KINDS, answer_attacks
from rewards.attacks import mutations
from rewards.cases import Case
from rewards.math_answer import math_answer

DATA = Path(__file__).resolve().parents[2] / "../shared/data"
PLAIN = """
import re

def contains(sample):
    return float(sample.gold in sample.completion)

def last_number(sample):
    texts = [text.replace(",", "") for text in (sample.gold, sample.completion)]
    numbers = [re.findall(r"-?[\\d.]*\\d", text) for text in texts]
    return float(all(numbers) and float(numbers[0][-1]) == float(numbers[1][-1]))

def near(sample):
    numbers = re.findall(r"-?\\d+(?:\\.\\d+)?", sample.completion)
    try:
        return float(bool(numbers) and abs(float(numbers[0]) - float(sample.gold)) < 1e-6)
    except ValueError:
        return 0.0
"""


@pytest.fixture(scope="module")
def paid(tmp_path_factory: pytest.TempPathFactory) -> dict[str, set[str]]:
    """The kinds that each plain reward pays."""
    base = tmp_path_factory.mktemp("plain")
    (base / "mine.py").write_text(PLAIN)
    outcomes = {
        name: audit.attack(f"mine.py:{name}", base=base)
        for name in ("contains", "last_number", "near")
    }
    assert all(outcome["infra_errors"] == 0 for outcome in outcomes.values())
    return {name: {h["attack"] for h in one["paid"]} for name, one in outcomes.items()}


@pytest.mark.parametrize("kind", KINDS)
def test_some_plain_reward_pays_each_kind(paid: dict[str, set[str]], kind: str) -> None:
    assert any(kind in kinds for kinds in paid.values())


def test_each_plain_reward_is_caught_by_several(paid: dict[str, set[str]]) -> None:
    assert all(len(kinds & set(KINDS)) >= 3 for kinds in paid.values())


def test_ours_pays_none() -> None:
    assert audit.attack("builtin:math_answer")["paid"] == []


@pytest.mark.skipif(not DATA.exists(), reason="the shared data is not here")
def test_ours_pays_none_made_of_real_golds() -> None:
    rows = [json.loads(line) for line in (DATA / "math500/test.jsonl").read_text().splitlines()]
    for gold in (row["answer"] for row in rows[::3]):
        other = next((text for _, text in mutations(gold)), "271828")
        for kind, completion in answer_attacks(gold, other):
            result = math_answer(Sample(prompt="", completion=completion, gold=gold))
            assert result.value == 0.0, (kind, gold, completion)


def test_lists_and_letters_are_attacked() -> None:
    case = Case(Sample(prompt="", completion="", gold="(B)"), None)
    assert audit.attack("builtin:math_answer", [case])["paid"] == []
    assert {kind for kind, _ in answer_attacks("(B)", "C")} == {
        "several letters",
        "taken back in prose",
    }
