"""Answers as people write them, by kind: gold, completion, and whether it deserves the reward.

``maths_by_gold.json`` has for each gold the completions that deserve the reward, and those that do
not.
"""

import json
from pathlib import Path

import pytest

from rewards import Sample
from rewards.math_answer import math_answer
from tests.rewards.cpu_budget import within_the_budget

KINDS: dict[str, list[tuple[str, str, bool]]] = json.loads(
    Path(__file__).with_name("maths_kinds.json").read_text(encoding="utf-8")
)
BY_GOLD: dict[str, list[tuple[str, list[str], list[str]]]] = json.loads(
    Path(__file__).with_name("maths_by_gold.json").read_text(encoding="utf-8")
)


def paid(gold: str, completion: str) -> bool:
    return math_answer(Sample(prompt="", completion=completion, gold=gold)).value == 1.0


@pytest.mark.parametrize("kind", KINDS)
def test_right_ones_are_paid_and_wrong_ones_are_not(kind: str) -> None:
    assert [case for case in KINDS[kind] if paid(*case[:2]) != case[2]] == []


@pytest.mark.parametrize("kind", BY_GOLD)
def test_each_gold_pays_what_deserves_it(kind: str) -> None:
    refused = [(gold, text) for gold, right, _ in BY_GOLD[kind] for text in right
               if not paid(gold, text)]  # fmt: skip
    wrongly = [(gold, text) for gold, _, wrong in BY_GOLD[kind] for text in wrong
               if paid(gold, text)]  # fmt: skip
    assert (refused, wrongly) == ([], [])


@pytest.mark.parametrize(
    "answer",
    [
        "\\begin{cases} " + "9^{9^9} & 1<9^{9^9} \\\\ " * 6 + "\\end{cases}",
        "\\begin{cases} " + "(1+x)^{60} & (1+x)^{60}>0 \\\\ " * 6 + "\\end{cases}",
        "\\begin{cases}" + " & " * 3000,
        "the only " * 900,
        "(" + "1|" * 3000 + ")",
        "1 to " * 1500 + "1",
        "1 hour " * 1000,
        "f(" * 40 + "x" + ")" * 40,
        "+".join(["f(x+y+z)"] * 300),
        "f((x+y+z)^{20})",
    ],
)
def test_no_kind_takes_long(answer: str) -> None:
    golds = [
        "\\begin{cases} (1+x)^{59} & (1+x)^{59}>0 \\\\ 2 & (1+x)^{58}>0 \\end{cases}",
        "f(x+1)",
        "3:4",
        "(1,2)",
    ]
    with within_the_budget():
        for gold in golds:
            paid(gold, f"\\boxed{{{answer}}}")
