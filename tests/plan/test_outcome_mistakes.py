"""Expected outcomes are refused where several answers are right."""

import json
from pathlib import Path
from typing import Any

import pytest

from pipeline.plan.outcome_mistakes import outcome_mistakes
from pipeline.recipe.schema import Recipe
from tests.plan.plans import recipe_with

DEPTH: dict[str, Any] = {
    "kind": "depth", "prompts": "train", "calibration": "train", "held_out": "train",
    "max_depth": 4, "max_tokens": 9, "rl": {"outcome": "expected"},
}  # fmt: skip


def mistakes(recipe: Recipe) -> str:
    return "\n".join(outcome_mistakes(recipe, "d", recipe.stages["d"]))


def test_one_gold_of_a_task_is_taken() -> None:
    assert mistakes(recipe_with({"d": DEPTH})) == ""


@pytest.mark.parametrize(
    ("reward", "part"),
    [
        ({"use": "builtin:math_answer"}, "by builtin:math_answer, which may pay several"),
        ({"use": "builtin:exact_match", "args": {"ignore_case": True}}, "with args"),
        ({"train": "builtin:choice"}, "by builtin:choice"),
    ],
)
def test_rewards_that_pay_several_answers_are_refused(reward: dict[str, Any], part: str) -> None:
    recipe = recipe_with({"d": DEPTH}, rewards={"answer": reward})
    text = mistakes(recipe)
    assert text.startswith("stages.d.rl.outcome: expected needs one right answer a row")
    assert part in text
    assert "set outcome: sampled" in text
    assert mistakes(recipe_with({"d": {**DEPTH, "rl": {}}}, rewards={"answer": reward})) == ""


def test_rows_without_one_gold_are_named(tmp_path: Path) -> None:
    rows = [{"question": "a?", "answer": "b"}, {"question": "c?", "answer": ["d", "e"]}]
    (tmp_path / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    prompts = {"train": {"file": str(tmp_path / "rows.jsonl")}}
    text = mistakes(recipe_with({"d": DEPTH}, prompts=prompts))
    assert "line 2 has 2, and so it is with 1 of 2 rows" in text
