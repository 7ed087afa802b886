"""Recipes that the tests of plans share."""

from pathlib import Path
from typing import Any

import pytest

from pipeline.plan.plan import make_plan
from pipeline.plan.stage_plan import PlanError
from pipeline.recipe.schema import Recipe

SCRATCH = {"scratch": {"hidden": 32, "layers": 1, "heads": 1, "mlp": 64, "max_position": 65536}}


SFT: dict[str, Any] = {"kind": "sft", "rows": "train.worked"}


GRPO: dict[str, Any] = {"kind": "grpo", "prompts": "train", "rewards": ["answer"], "steps": 3}


def recipe_with(stages: dict[str, Any], **sections: Any) -> Recipe:
    content = {
        "name": "t",
        "model": SCRATCH,
        "prompts": {"train": {"task": "swaps", "size": 10, "difficulty": [1, 2]}},
        "rewards": {"answer": {"use": "builtin:exact_match"}},
        "stages": stages,
    }
    return Recipe.model_validate({**content, **sections})


def r1(**sections: Any) -> Recipe:
    """The whole flow, in R1's order."""
    return recipe_with(
        {
            "cold_start": SFT,
            "reason": {**GRPO, "init": "cold_start"},
            "harvest": {
                "kind": "reject", "policy": "reason", "prompts": "train", "rewards": ["answer"],
            },
            "refit": {"kind": "sft", "rows": ["harvest", "train.worked"]},
            "preference": {"kind": "reward_model", "init": "refit", "pairs": "harvest"},
            "align": {**GRPO, "init": "refit", "rewards": ["answer", {"model": "preference"}]},
            "student": {
                "kind": "distill", "teacher": "align", "student": SCRATCH, "rows": "harvest",
            },
            "report": {"kind": "evaluate", "models": ["base", "align"], "prompts": "train"},
            "export": {"kind": "export", "model": "align"},
        },
        **sections,
    )  # fmt: skip


def refusal(recipe: Recipe) -> str:
    with pytest.raises(PlanError) as caught:
        make_plan(recipe)
    return str(caught.value)


def fingerprint(recipe: Recipe, stage: str) -> str:
    return make_plan(recipe).fingerprints[stage]


def model_folder(path: Path) -> Path:
    path.mkdir()
    for name in ("config.json", "model.safetensors", "tokenizer.json"):
        (path / name).write_text("{}")
    return path


ROUTED = {"train": "builtin:exact_match", "held_out": {"use": "builtin:math_answer"}}


TWO_ENTRIES = {
    name: {"task": "swaps", "size": 10, "difficulty": [1, 2]} for name in ("train", "held_out")
}


def routed(stages: dict[str, Any], **routes: Any) -> Recipe:
    rewards = {"answer": {"by_source": {**ROUTED, **routes}}}
    return recipe_with(stages, prompts=TWO_ENTRIES, rewards=rewards)


RECURRENT = {"scratch": {"hidden": 32, "core": 1, "heads": 1, "mlp": 64, "max_iterations": 4}}


DEPTH: dict[str, Any] = {
    "kind": "depth", "prompts": "train", "calibration": "train", "held_out": "train",
    "max_depth": 4, "max_tokens": 16,
}  # fmt: skip
