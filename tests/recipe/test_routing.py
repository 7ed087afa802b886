"""Which function judges which prompts."""

import json
from pathlib import Path
from typing import Any

import pytest

from pipeline.plan.notes import notes_of
from pipeline.plan.plan import make_plan
from pipeline.recipe.grpo_stage import GrpoStage
from pipeline.recipe.routing import judge_of, judges, watched_reward
from pipeline.recipe.schema import Recipe
from tests.plan.plans import GRPO, ROUTED, TWO_ENTRIES, recipe_with, refusal, routed


@pytest.mark.parametrize(
    ("routes", "parts"),
    [
        (
            {"trian": "builtin:exact_match"},
            ("rewards.answer.by_source.trian", "did you mean train?", "train, held_out"),
        ),
        (
            {"held_out": "builtin:exact_mach"},
            ("rewards.answer.by_source.held_out: reward builtin:exact_mach", "exact_match?"),
        ),
        (
            {"held_out": {"use": "builtin:exact_match", "args": {"wrds": 1}}},
            ("rewards.answer.by_source.held_out", "unknown argument 'wrds'"),
        ),
    ],
)
def test_wrong_routes_are_refused(routes: dict[str, Any], parts: tuple[str, ...]) -> None:
    text = refusal(routed({"a": GRPO}, **routes))
    for part in parts:
        assert part in text


@pytest.mark.parametrize("role", ["prompts", "watch"])
def test_prompts_that_a_reward_has_no_route_for_are_refused(role: str) -> None:
    value: Any = {"prompts": "spare"} if role == "watch" else "spare"
    prompts = {**TWO_ENTRIES, "spare": TWO_ENTRIES["train"]}
    rewards = {"answer": {"by_source": ROUTED}}
    recipe = recipe_with({"a": {**GRPO, role: value}}, prompts=prompts, rewards=rewards)
    text = refusal(recipe)
    assert f"stages.a.{role}: reward answer says nothing about spare" in text
    assert "which has train, held_out" in text


@pytest.mark.parametrize(
    ("spec", "said"),
    [
        ({}, "found none"),
        ({"use": "builtin:exact_match", "by_source": ROUTED}, "found use, by_source"),
        ({"by_source": ROUTED, "args": {"x": 1}}, "args stand beside each use"),
    ],
)
def test_a_reward_has_one_judge_or_one_per_entry(spec: dict[str, Any], said: str) -> None:
    with pytest.raises(ValueError, match=said):
        recipe_with({"a": GRPO}, rewards={"answer": spec})


MIXED = [
    {"question": "1 + 1?", "answer": "2", "data_source": "gsm8k"},
    {"question": "add(a, b)", "answer": "def add(a, b): ...", "data_source": "mbpp"},
]


BY_ROW = {"gsm8k": "builtin:math_answer", "mbpp": {"use": "builtin:code_tests", "args": {}}}


def mixed(path: Path, *, rows: list[dict[str, str]] = MIXED, **source: Any) -> Recipe:
    """A recipe whose rewards go by a column of the rows in one file."""
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    prompts = {"train": {"file": str(path), "source_column": "data_source", **source}}
    return recipe_with({"a": GRPO}, prompts=prompts, rewards={"answer": BY_ROW})


def test_rewards_may_go_by_a_column_of_the_rows(tmp_path: Path) -> None:
    recipe = mixed(tmp_path / "rows.jsonl")
    plan = make_plan(recipe)
    judge = judge_of(recipe, "answer", "train")
    assert judge is not None
    assert dict(judges(recipe, "answer"))["train"] == judge
    assert judge.args["column"] == "data_source"
    assert [route["use"] for route in judge.args["routes"].values()] == [
        "builtin:math_answer",
        "builtin:code_tests",
    ]
    renamed = mixed(tmp_path / "rows.jsonl", columns={"from": "data_source"})
    judge = judge_of(renamed, "answer", "train")
    assert judge is not None
    assert judge.args["column"] == "from"
    other = recipe.rewards["answer"].model_copy(update={"by_source": {}})
    changed = make_plan(recipe.model_copy(update={"rewards": {"answer": other}}))
    assert changed.fingerprints["a"] != plan.fingerprints["a"]


def test_a_row_without_a_route_is_refused(tmp_path: Path) -> None:
    strange = [*MIXED, {**MIXED[0], "data_source": "gsm8"}]
    text = refusal(mixed(tmp_path / "rows.jsonl", rows=strange))
    for part in ("rows.jsonl, line 3", "data_source is 'gsm8'", "did you mean gsm8k?", "mbpp"):
        assert part in text
    del strange[2]["data_source"]
    text = refusal(mixed(tmp_path / "rows.jsonl", rows=strange))
    assert "line 3: column 'data_source' (source_column) is missing" in text


def test_routes_by_value_need_the_column_named(tmp_path: Path) -> None:
    recipe = recipe_with({"a": GRPO}, rewards={"answer": BY_ROW})
    assert "name it: source_column: COLUMN" in refusal(recipe)


SHAPES = {name: {"use": f"builtin:{name}"} for name in ("repetition", "length", "think_format")}


@pytest.mark.parametrize(
    ("names", "watched"),
    [
        (["answer"], "answer"),
        (["repetition", "answer"], "answer"),
        (["think_format", "length", "mine", "answer"], "mine"),
        (["length", "repetition"], "length"),
    ],
)
def test_held_out_accuracy_goes_by_the_first_reward_about_answers(
    names: list[str], watched: str
) -> None:
    rewards = {**SHAPES, "answer": {"use": "builtin:exact_match"}, "mine": {"use": "json:loads"}}
    watch = {"prompts": "train"}
    recipe = recipe_with({"a": {**GRPO, "rewards": names, "watch": watch}}, rewards=rewards)
    stage = recipe.stages["a"]
    assert isinstance(stage, GrpoStage)
    assert watched_reward(recipe, stage) == watched
    notes = [note for note in notes_of(recipe) if f"completions with {watched} at 1" in note]
    assert len(notes) == (len(names) > 1)


def test_the_recipe_may_name_the_watched_reward() -> None:
    watch = {"prompts": "train", "reward": "length"}
    content = {**GRPO, "rewards": ["answer", "length"], "watch": watch}
    rewards = {**SHAPES, "answer": {"use": "builtin:exact_match"}}
    recipe = recipe_with({"a": content}, rewards=rewards)
    stage = recipe.stages["a"]
    assert isinstance(stage, GrpoStage)
    assert watched_reward(recipe, stage) == "length"
    with pytest.raises(ValueError, match=r"watch.reward: think_format is none of the stage's"):
        recipe_with({"a": {**content, "watch": {**watch, "reward": "think_format"}}})
