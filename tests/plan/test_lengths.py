"""Lengths that our own tasks tell."""

from typing import Any

import pytest

from pipeline.plan.lengths import task_lengths
from pipeline.prompts.tasks import generate
from tests.plan.plans import GRPO, SFT, recipe_with


def test_a_token_is_a_character_of_the_solution_in_our_own_models() -> None:
    recipe = recipe_with({"a": SFT, "b": GRPO})
    problems = generate("swaps", size=10, split="train", seed=7, difficulty=(1, 2))
    found = task_lengths(recipe, "b")
    questions = sum(len(p.question) for p in problems) / 10
    completions = [len(p.worked) + len(p.answer) + 2 + 1 for p in problems]
    assert found.prompt == pytest.approx(questions + 1)
    assert found.completion == pytest.approx(sum(completions) / 10)
    assert found.longest == max(completions)
    assert found.completion_tokens(5) == 5


def test_what_learns_answers_alone_writes_no_steps() -> None:
    steps = task_lengths(recipe_with({"a": SFT, "b": GRPO}), "b")
    answers = task_lengths(recipe_with({"a": {**SFT, "rows": "train.answer"}, "b": GRPO}), "b")
    assert answers.completion is not None
    assert steps.completion is not None
    assert answers.completion < steps.completion


@pytest.mark.parametrize(
    "source",
    [
        {"hub": "a/b"},
        {"task": "swaps", "size": 10**6, "difficulty": [99, 2000]},
        {"task": "copy", "size": 900, "difficulty": [1, 1], "split": "test"},
    ],
)
def test_what_no_task_tells_follows_from_max_tokens(source: Any) -> None:
    found = task_lengths(recipe_with({"b": GRPO}, prompts={"train": source}), "b")
    if found.completion is None:
        assert found.completion_tokens(100) == 50
        assert found.prompt_tokens(1000) == 64
        assert found.longest_tokens(100) == 100


def test_harvested_rows_are_as_long_as_what_was_sampled() -> None:
    harvest = {"kind": "reject", "policy": "base", "prompts": "train", "rewards": ["answer"]}
    recipe = recipe_with({"h": harvest, "s": {"kind": "sft", "rows": "h"}})
    assert task_lengths(recipe, "s") == task_lengths(recipe, "h")
