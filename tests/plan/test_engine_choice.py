"""`engine: auto` is a rule: the same model has the same engine, in plans and in runs."""

import json
from pathlib import Path
from typing import Any

import pytest

from pipeline.plan.engine_choice import NATIVE_HIDDEN, engine_for, first_engine, planned_engines
from pipeline.plan.plan import PlanError, make_plan
from pipeline.recipe.hardware import Hardware
from pipeline.recipe.schema import Recipe
from pipeline.recurrent.shape import MODEL_TYPE
from tests.plan.plans import GRPO, recipe_with

RECURRENT = {"model_type": MODEL_TYPE, "hidden_size": NATIVE_HIDDEN[MODEL_TYPE]}
LLAMA = {"model_type": "llama", "hidden_size": NATIVE_HIDDEN["llama"]}
AUTO = Hardware(engine="auto")
SHAPE = {"hidden": 64, "heads": 2, "mlp": 64}


@pytest.mark.parametrize(
    ("change", "engine"),
    [
        ({}, "native"),
        ({"hidden_size": NATIVE_HIDDEN[MODEL_TYPE] + 32}, "vllm"),
        (LLAMA, "native"),
        (LLAMA | {"model_type": "qwen2"}, "native"),
        (LLAMA | {"model_type": "qwen2", "use_sliding_window": True}, "vllm"),
        (LLAMA | {"model_type": "qwen3"}, "native"),
        (LLAMA | {"model_type": "gemma2"}, "vllm"),
        (LLAMA | {"hidden_size": NATIVE_HIDDEN["llama"] + 32}, "vllm"),
        (LLAMA | {"rope_parameters": {"partial_rotary_factor": 0.5}}, "vllm"),
        (LLAMA | {"partial_rotary_factor": 0.5}, "vllm"),
        (LLAMA | {"rope_scaling": {"type": "dynamic", "factor": 2.0}}, "vllm"),
        (LLAMA | {"rope_scaling": {"rope_type": "llama3", "factor": 8.0}}, "native"),
        (LLAMA | {"auto_map": {"AutoModelForCausalLM": "own.Model"}}, "vllm"),
        ({"auto_map": {"AutoModelForCausalLM": "model.RecurrentForCausalLM"}}, "native"),
        ({"kv_planes": 2}, "vllm"),
        ({"warm_start": True}, "vllm"),
        ({"rope_parameters": {"rope_type": "dynamic"}}, "vllm"),
        ({"rope_parameters": {"rope_type": "yarn"}}, "native"),
    ],
)
def test_small_models_are_the_native_engines(change: dict[str, Any], engine: str) -> None:
    config = {**RECURRENT, **change}
    assert engine_for(AUTO, config, device="cpu") == engine
    assert engine_for(AUTO, config, device="cuda") == "vllm"
    for named in ("vllm", "native"):
        assert engine_for(Hardware(engine=named), config, device="cpu") == named


@pytest.mark.parametrize(
    ("model", "engine"),
    [
        ({"scratch": {**SHAPE, "core": 1}}, "native"),
        ({"scratch": {**SHAPE, "layers": 1}}, "native"),
        ({"scratch": {**SHAPE, "hidden": 1024, "heads": 16, "layers": 1}}, "vllm"),
        ({"scratch": {**SHAPE, "hidden": 512, "heads": 16, "core": 1}}, "vllm"),
        ({"path": "data/models/tiny"}, "native"),
        ({"path": "data/models/tiny-student"}, "native"),
        ({"hub": "a/b"}, "auto"),
    ],
)
def test_a_plan_knows_what_files_say(model: dict[str, Any], engine: str) -> None:
    planned = auto(model)
    assert planned_engines(planned, planned.stages["a"], device="cpu") == [engine]
    assert first_engine(planned, device="cpu") == ("native" if engine == "native" else "vllm")


def test_a_dense_model_that_is_split_is_recurrent(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text(json.dumps({"model_type": "llama", "hidden_size": 64}))
    planned = auto({"path": str(tmp_path), "split": [1, 1, 1]})
    assert planned_engines(planned, planned.stages["a"], device="cpu") == ["native"]


def test_a_fingerprint_has_the_engine_that_samples() -> None:
    model = {"path": "data/models/tiny"}
    prints = [
        make_plan(auto(model, engine=name)).fingerprints["a"] for name in ("auto", "native", "vllm")
    ]
    assert prints[0] == prints[1] != prints[2]


def auto(model: dict[str, Any], *, engine: str = "auto") -> Recipe:
    grpo = {**GRPO, "max_tokens": 64}
    return recipe_with({"a": grpo}, model=model, hardware={"engine": engine, "device": "cpu"})


def test_the_native_engine_is_refused_for_models_that_it_has_no_code_for(tmp_path: Path) -> None:
    stages = {"a": {**GRPO, "max_tokens": 64}}
    config = {"model_type": "gemma2", "hidden_size": 64, "max_position_embeddings": 128}
    (tmp_path / "config.json").write_text(json.dumps(config))

    def planned(engine: str, model: dict[str, Any]) -> None:
        make_plan(recipe_with(stages, model=model, hardware={"engine": engine}))

    with pytest.raises(
        PlanError,
        match=r"stages\.a: the native engine serves recurrent models and dense ones of llama, "
        r"qwen2, qwen3, and base is a gemma2; write hardware\.engine: vllm",
    ):
        planned("native", {"path": str(tmp_path)})
    with pytest.raises(PlanError, match="and base is a model of its own code"):
        planned("native", {"hub": "a/b", "trust_remote_code": True})
    planned("native", {"scratch": {**SHAPE, "core": 1}})
    planned("native", {"scratch": {**SHAPE, "layers": 1}})
    planned("auto", {"scratch": {**SHAPE, "layers": 1}})
