"""The schema for editors: every key is explained, every recipe passes, every typo does not."""

from pathlib import Path
from typing import Any

import pytest
from jsonschema import Draft202012Validator
from omegaconf import OmegaConf

from pipeline.recipe.editor_schema import editor_schema
from pipeline.recipe.places import shipped_recipes

SCHEMA = editor_schema()
JUDGE = Draft202012Validator(SCHEMA)
COMPLETE: dict[str, Any] = {
    "name": "x",
    "model": {"path": "somewhere"},
    "prompts": {"train": {"file": "rows.jsonl"}},
    "rewards": {"answer": {"use": "builtin:exact_match"}},
    "stages": {"cold": {"kind": "sft", "rows": "train.answer"}},
}


def _read(path: Path) -> Any:
    return OmegaConf.to_container(OmegaConf.load(path), resolve=False)


def test_every_key_has_a_description_that_stands_by_itself() -> None:
    sections = [SCHEMA, *SCHEMA["$defs"].values()]
    texts = [
        (section["title"], key, " ".join(value.get("description", "").split()))
        for section in sections
        for key, value in section.get("properties", {}).items()
    ]
    assert len(texts) > 230
    assert [(title, key) for title, key, text in texts if not text.endswith(".")] == []
    fragments = ("Of ", "In the ", "As ", "From ")
    assert [(title, key) for title, key, text in texts if text.startswith(fragments)] == []
    assert [section["title"] for section in sections if not section.get("description")] == []


@pytest.mark.parametrize(
    "path", sorted(shipped_recipes().rglob("*.yaml")), ids=lambda path: path.stem
)
def test_every_shipped_recipe_passes(path: Path) -> None:
    content = _read(path)
    if path.parent.name == "base":  # it is for others to start from
        content = {"defaults": [], **content}
    assert [error.message for error in JUDGE.iter_errors(content)] == []


@pytest.mark.parametrize(
    "change",
    [
        {"stages": {"cold": {"lr": "${stages.other.lr}"}}},
        {"stages": {"cold": None}},
        {"rewards": {"answer": {"math": "builtin:math_answer", "weight": 0.5}}},
        {"rewards": {"answer": {"by_source": {"math": {"use": "a:b", "args": {"c": 1}}}}}},
    ],
)
def test_what_a_file_may_write_passes(change: dict[str, Any]) -> None:
    assert not list(JUDGE.iter_errors({"defaults": "quickstart", **change}))
    assert not list(JUDGE.iter_errors({**COMPLETE, **change, "defaults": ["r1-zero"]}))


@pytest.mark.parametrize(
    "change",
    [
        {"stagess": {}},
        {"model": {"pathh": "somewhere"}},
        {"stages": {"cold": {"kind": "sft", "stepss": 2}}},
        {"stages": {"cold": {"kind": "sft", "steps": 2}}},
        {"stages": {"cold": {"lr": "fast"}}},
        {"prompts": {"train": {"file": 3}}},
        {"rewards": {"answer": {"use": "builtin:exact_match", "weigth": 1.0}}},
        {"hardware": {"ranks": 0}},
        {"defaults": {"a": "b"}},
    ],
)
def test_what_a_plan_would_refuse_does_not(change: dict[str, Any]) -> None:
    assert not list(JUDGE.iter_errors(COMPLETE))
    assert list(JUDGE.iter_errors({**COMPLETE, **change}))


def test_without_defaults_the_top_must_be_complete() -> None:
    assert list(JUDGE.iter_errors({"name": "x"}))
    assert not list(JUDGE.iter_errors({"name": "x", "defaults": "quickstart"}))
