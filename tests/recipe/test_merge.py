"""One key over another: the others of its entry stay, and what cannot is told."""

from pathlib import Path

import pytest

from pipeline.recipe.load import load_recipe
from pipeline.recipe.recipe_errors import RecipeError
from pipeline.recipe.schema import Recipe

BASE = """
name: small
model: {path: mine, split: [1, 1, 1], max_iterations: 3, stop: ["<end>"], dtype: bfloat16}
prompts:
  rows: {file: a.jsonl, columns: {question: q, answer: "a.value"}, answer_after: "####", size: 9,
    source_column: kind, system: Think.}
  shaped: {file: a.jsonl, template: "{q}?"}
  hub: {hub: "a/b:main", split: "train[:9]", answer_after: "####", size: 9}
  task: {task: swaps, size: 10, difficulty: [1, 2], distractors: [1, 1], split: test, seed: 3}
  gym: {gym: leg_counting, size: 3, options: {min_animals: 2}, answer_after: "="}
rewards:
  brief: {use: "builtin:length", args: {limit: 5}, weight: 0.5}
  answer: {by_source: {a: {use: "builtin:length", args: {limit: 5}}, b: "builtin:exact_match"}}
stages:
  cold: {kind: sft, rows: rows.answer, lr: 1e-4, epochs: 3, packing: true, max_tokens: 64}
  reason: {kind: grpo, init: cold, prompts: rows, rewards: [brief], steps: 3, lr: 1e-5, kl: 0.5}
  student: {kind: distill, teacher: cold, rows: rows.answer, student: {hub: a/b, split: [1, 1, 1]}}
"""


@pytest.fixture
def recipe(tmp_path: Path) -> Path:
    path = tmp_path / "small.yaml"
    path.write_text(BASE)
    return path


def overridden(path: Path, *overrides: str) -> tuple[Recipe, list[str]]:
    """The recipe, and what was told."""
    told: list[str] = []
    return load_recipe(str(path), overrides, tell=told.append), told


def written(recipe: Recipe, section: str, name: str) -> set[str]:
    """Keys that an entry states."""
    return getattr(recipe, section)[name].model_fields_set


@pytest.mark.parametrize(
    ("section", "name", "override"),
    [
        ("prompts", "rows", "prompts.rows.file=other.jsonl"),
        ("prompts", "rows", "prompts.rows.file=[one.jsonl, two.jsonl]"),
        ("prompts", "rows", "prompts.rows={file: other.jsonl}"),
        ("prompts", "shaped", "prompts.shaped.file=other.jsonl"),
        ("prompts", "hub", "prompts.hub.hub=c/d"),
        ("prompts", "task", "prompts.task.task=sums"),
        ("prompts", "gym", "prompts.gym.gym=chain_sum"),
        ("rewards", "brief", "rewards.brief.use=builtin:exact_match"),
        ("rewards", "answer", "rewards.answer.by_source.a=builtin:exact_match"),
        ("rewards", "answer", "rewards.answer.c=builtin:exact_match"),
        ("stages", "cold", "stages.cold.rows=rows.worked"),
        ("stages", "student", "stages.student.student.hub=c/d"),
    ],
)
def test_the_same_choice_with_another_value_keeps_the_rest(
    recipe: Path, section: str, name: str, override: str
) -> None:
    before = load_recipe(str(recipe))
    after, told = overridden(recipe, override)
    assert after != before
    assert written(after, section, name) == written(before, section, name)
    assert not told


@pytest.mark.parametrize("override", ["model.path=other", "model.hub=a/b", "model.gguf=a.gguf"])
def test_another_model_is_split_and_stopped_as_the_old_one(recipe: Path, override: str) -> None:
    changed, told = overridden(recipe, override)
    model = changed.model
    assert (model.split, model.max_iterations, model.stop, model.dtype) == (
        (1, 1, 1), 3, ("<end>",), "bfloat16",
    )  # fmt: skip
    assert not told


def test_arguments_of_a_judge_stay(recipe: Path) -> None:
    changed, _ = overridden(recipe, "rewards.answer.a=mine:f")
    judges = changed.rewards["answer"].by_source or {}
    assert judges["a"].args == {"limit": 5}
    assert judges["a"].use == "mine:f"


@pytest.mark.parametrize(
    ("override", "lost", "kept"),
    [
        ("prompts.rows.hub=a/b", (), {"columns", "answer_after", "size", "source_column"}),
        ("prompts.hub.file=a.jsonl", ("split",), {"answer_after", "size"}),
        ("prompts.task.gym=chain_sum", ("difficulty", "distractors"), {"size", "split", "seed"}),
        ("prompts.task.file=a.jsonl", ("size", "difficulty", "distractors", "split"), {"seed"}),
        ("prompts.gym.file=a.jsonl", ("size", "options"), {"answer_after"}),
        ("prompts.rows={task: sums, size: 4}", ("columns", "answer_after"), {"size", "system"}),
    ],
)
def test_another_source_keeps_what_it_knows(
    recipe: Path, override: str, lost: tuple[str, ...], kept: set[str]
) -> None:
    changed, told = overridden(recipe, override)
    name = override.split(".")[1].partition("=")[0]
    assert written(changed, "prompts", name) >= kept
    assert not written(changed, "prompts", name) & set(lost)
    assert len(told) == bool(lost)
    for key in lost:
        assert f"prompts.{name}.{key}" in told[0]
        assert told[0].startswith(f"override {override}: without ")


def test_a_scratch_model_has_no_split(recipe: Path) -> None:
    shape = "{hidden: 64, heads: 2, mlp: 96, layers: 2}"
    changed, told = overridden(recipe, f"model.scratch={shape}")
    assert changed.model.split is None
    assert "model.split, model.max_iterations" in told[0]


def test_another_kind_of_stage_keeps_what_it_knows(recipe: Path) -> None:
    with pytest.raises(RecipeError, match=r"stages\.cold\.prompts: is missing"):
        overridden(recipe, "stages.cold.kind=grpo")
    layers = ["stages.reason.kind=sft", "stages.reason.rows=rows.answer"]
    after, told = overridden(recipe, *layers)
    assert written(after, "stages", "reason") == {"kind", "init", "lr", "rows"}
    assert len(told) == 1
    assert "stages.reason.steps" in told[0]
    whole, _ = overridden(recipe, "stages.reason={kind: sft, rows: rows.answer}")
    assert written(whole, "stages", "reason") == {"kind", "rows"}


def test_an_entry_can_be_written_anew(recipe: Path) -> None:
    changed, _ = overridden(recipe, "prompts.rows=null", "prompts.rows={file: b.jsonl}")
    assert written(changed, "prompts", "rows") == {"file"}
