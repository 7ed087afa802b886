"""Which stages let the engines load while others train."""

import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from pipeline.generate.engine import EngineSettings
from pipeline.plan.plan import make_plan
from pipeline.recipe.schema import Recipe
from pipeline.stages.prompt_room import PromptRoom
from pipeline.stages.support import prepare_engines

SCRATCH = {"scratch": {"hidden": 32, "layers": 1, "heads": 1, "mlp": 64, "max_position": 128}}
SFT = {"kind": "sft", "rows": "train.worked", "max_tokens": 64}
GRPO = {"kind": "grpo", "init": "cold", "prompts": "train", "rewards": ["answer"], "steps": 1,
    "max_tokens": 48}  # fmt: skip
STUDENT = {"kind": "distill", "teacher": "cold", "rows": "train.worked", "student": SCRATCH,
    "max_tokens": 64}  # fmt: skip


class Engines:
    """A cluster that notes what its engines were told to load."""

    def __init__(self) -> None:
        self.loads: list[tuple[Path, EngineSettings]] = []

    def prepare(self, model: Path, settings: EngineSettings) -> None:
        self.loads.append((model, settings))


def loads(folder: Path, stages: dict[str, Any], *, waiting: int, device: str = "cpu") -> list[Any]:
    recipe = Recipe.model_validate(
        {
            "name": "early",
            "model": {"scratch": {"hidden": 64, "layers": 1, "heads": 2, "mlp": 64}},
            "prompts": {"train": {"task": "swaps", "size": 5, "difficulty": [1, 2]}},
            "rewards": {"answer": {"use": "builtin:exact_match"}},
            "stages": stages,
            "hardware": {"device": "cpu"},
        }
    )
    plan = make_plan(recipe)
    (folder / "model").mkdir(exist_ok=True)
    (folder / "model/config.json").write_text(
        json.dumps({"model_type": "llama", "max_position_embeddings": 512, "hidden_size": 64})
    )
    engines = Engines()
    context: Any = SimpleNamespace(
        plan=SimpleNamespace(recipe=recipe, stages=plan.stages, device=device),
        artifacts={"base": SimpleNamespace(path=folder)},
        cluster=engines,
        room=PromptRoom(),
    )
    prepare_engines(context, plan.stages[-waiting:])
    return engines.loads


def test_engines_load_the_base_while_the_cold_start_trains(tmp_path: Path) -> None:
    ((model, settings),) = loads(tmp_path, {"cold": SFT, "reason": GRPO}, waiting=2)
    assert model == tmp_path / "model"
    assert settings.device == "cpu"


@pytest.mark.parametrize(
    ("stages", "waiting", "device"),
    [
        ({"cold": SFT, "reason": GRPO}, 1, "cpu"),  # a resume: the first stage loads its own
        ({"cold": SFT}, 1, "cpu"),  # nothing samples
        ({"cold": SFT, "reason": GRPO}, 2, "cuda"),
        ({"cold": SFT, "small": STUDENT, "reason": {**GRPO, "init": "small"}}, 3, "cpu"),
    ],
)
def test_engines_wait_where_it_would_not_help(
    tmp_path: Path, stages: dict[str, Any], waiting: int, device: str
) -> None:
    assert loads(tmp_path, stages, waiting=waiting, device=device) == []
