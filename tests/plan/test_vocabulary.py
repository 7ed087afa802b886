"""`model.vocabulary: pruned`: what decides which tokens stay, and what is refused."""

import json
from pathlib import Path
from typing import Any

import pytest
from tokenizers import Tokenizer
from tokenizers.models import WordPiece

from pipeline.plan.notes import notes_of
from pipeline.plan.plan import make_plan
from pipeline.plan.stage_plan import PlanError
from pipeline.plan.vocabulary import is_pruned, vocabulary_texts
from pipeline.recipe.schema import Recipe

FULL = {"hub": "a/b-1B"}
SAMPLED = {"rewards": ["answer"], "max_tokens": 16}


def recipe(
    model: dict[str, Any] | None = None,
    *,
    size: int = 20,
    small: dict[str, Any] | None = None,
) -> Recipe:
    distill = {"kind": "distill", "teacher": "reason", "rows": "train.answer", "max_tokens": 64}
    student = {"student": {"path": "data/models/tiny-student"}}
    stages = {
        "cold": {"kind": "sft", "rows": "train.worked", "max_tokens": 64},
        "reason": {"kind": "grpo", "init": "cold", "prompts": "train", "steps": 1, **SAMPLED},
        "small": {**distill, **student, **(small or {})},
    }
    task = {"task": "sums", "size": size, "difficulty": [2, 3]}
    return Recipe.model_validate(
        {
            "name": "r",
            "model": model or {"hub": "a/b-1B", "vocabulary": "pruned"},
            "prompts": {"train": task, "idle": task},
            "rewards": {"answer": {"use": "builtin:exact_match"}},
            "stages": stages,
        }
    )


def test_what_stages_read_decides_and_is_in_the_bases_fingerprint() -> None:
    pruned = recipe()
    texts = [("train", None), ("train", "answer"), ("train", "worked")]
    assert vocabulary_texts(pruned) == texts
    assert vocabulary_texts(recipe(FULL)) == []
    base = make_plan(pruned).fingerprints["base"]
    assert base == make_plan(recipe()).fingerprints["base"]
    assert base != make_plan(recipe(size=21)).fingerprints["base"]
    whole = [make_plan(recipe(FULL, size=n)) for n in (20, 21)]
    assert whole[0].fingerprints["base"] == whole[1].fingerprints["base"] != base


def test_models_of_the_base_are_pruned_and_a_student_is_not() -> None:
    assert [is_pruned(recipe(), name) for name in ("base", "reason", "small")] == [
        True,
        True,
        False,
    ]
    assert not is_pruned(recipe(FULL), "reason")


def test_the_plan_names_it() -> None:
    (note,) = [note for note in notes_of(recipe()) if note.startswith("model.vocabulary")]
    assert "train, train.answer, train.worked" in note
    assert "export writes the full vocabulary again" in note
    assert not any("vocabulary" in note for note in notes_of(recipe(FULL)))


def test_a_student_is_not_pruned_and_shares_no_tokens_with_a_pruned_teacher() -> None:
    student = {"path": "data/models/tiny-student"}
    with pytest.raises(PlanError, match=r"stages\.small\.student\.vocabulary: only the recipe's"):
        make_plan(recipe(small={"student": {**student, "vocabulary": "pruned"}}))
    on_policy = {"mode": "on_policy", "steps": 1}
    with pytest.raises(PlanError, match=r"stages\.small\.mode: on_policy compares .* mode: rows"):
        make_plan(recipe(small=on_policy))
    make_plan(recipe(FULL, small=on_policy))
    make_plan(recipe())


def test_a_tokenizer_that_cannot_spell_is_refused_before_anything_runs(tmp_path: Path) -> None:
    for name in ("config.json", "model.safetensors"):
        (tmp_path / name).write_text(json.dumps({"model_type": "llama"}))
    Tokenizer(WordPiece({"[UNK]": 0}, unk_token="[UNK]")).save(str(tmp_path / "tokenizer.json"))
    pruned = recipe({"path": str(tmp_path), "vocabulary": "pruned"})
    with pytest.raises(PlanError, match=r"model\.vocabulary: .*WordPiece.*leave vocabulary out"):
        make_plan(pruned)


def test_a_scratch_model_has_nothing_to_prune() -> None:
    shape = {"hidden": 32, "layers": 1, "heads": 1, "mlp": 32}
    with pytest.raises(ValueError, match="vocabulary=pruned: a scratch model's characters"):
        type(recipe().model).model_validate({"scratch": shape, "vocabulary": "pruned"})
