"""Targets of adapters that a model does not have, told from its files."""

from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file

from pipeline.plan.lora_targets import linear_layers, lora_mistakes
from pipeline.plan.plan import make_plan
from pipeline.recipe.model_source import ModelSource
from tests.plan.plans import GRPO, SFT, recipe_with, refusal
from tests.plan.test_model_mistakes import LLAMA, folder


def model(path: Path) -> Path:
    """Files of a GPT-NeoX: other names than Llama's."""
    place = folder(path, LLAMA)
    save_file(
        {
            "gpt_neox.embed_in.weight": torch.zeros(100, 32),
            "gpt_neox.layers.0.attention.query_key_value.weight": torch.zeros(96, 32),
            "gpt_neox.layers.0.attention.query_key_value.bias": torch.zeros(96),
            "gpt_neox.layers.0.mlp.dense_4h_to_h.weight": torch.zeros(32, 64),
            "gpt_neox.layers.0.input_layernorm.weight": torch.zeros(32),
            "embed_out.weight": torch.zeros(100, 32),
        },
        place / "model.safetensors",
    )
    return place


def mistakes(path: Path, targets: Any) -> list[str]:
    stage = {**SFT, "lora": {"targets": targets}}
    recipe = recipe_with({"s": stage}, model={"path": str(path)})
    return list(lora_mistakes(recipe, "s", recipe.stages["s"]))


def test_linear_layers_are_read_from_the_heads_of_the_files(tmp_path: Path) -> None:
    assert linear_layers(ModelSource(path=str(model(tmp_path / "m")))) == [
        "gpt_neox.layers.0.attention.query_key_value",
        "gpt_neox.layers.0.mlp.dense_4h_to_h",
    ]


@pytest.mark.parametrize(
    ("target", "words"),
    [
        ("q_proj", "there are dense_4h_to_h, query_key_value"),
        ("query_key_values", "did you mean query_key_value?"),
        ("embed_out", "the output head takes no adapter"),
        ("input_layernorm", "no linear layer 'input_layernorm'"),
        ("ense_4h_to_h", "did you mean dense_4h_to_h?"),  # the end of a word is no name
        ("all_linear", "did you mean all-linear?"),
    ],
)
def test_a_target_that_no_layer_is_called(tmp_path: Path, target: str, words: str) -> None:
    (mistake,) = mistakes(model(tmp_path / "m"), ["query_key_value", target])
    assert mistake.startswith("stages.s.lora.targets: ")
    assert repr(target) in mistake
    assert words in mistake


@pytest.mark.parametrize(
    "targets",
    ["all-linear", "query_key_value", ["attention.query_key_value", "dense_4h_to_h"]],
)
def test_targets_that_are_there(tmp_path: Path, targets: Any) -> None:
    assert not mistakes(model(tmp_path / "m"), targets)


def test_files_that_say_nothing_are_left_to_the_loading(tmp_path: Path) -> None:
    assert not mistakes(folder(tmp_path / "m", LLAMA), ["anything"])  # an empty weights file


@pytest.mark.parametrize(
    ("model", "there"),
    [
        ({"hub": "a/b", "split": [2, 4, 2], "copy_core": True}, True),
        ({"hub": "a/b", "split": [2, 4, 2], "tie_iterations": False}, True),
        ({"hub": "a/b", "split": [2, 4, 2]}, False),
        ({"scratch": {"hidden": 64, "core": 1, "heads": 2, "mlp": 64}}, False),
        ({"hub": "a/b"}, True),  # loading says it
    ],
)
def test_later_iterations_need_layers_of_their_own(model: dict[str, Any], there: bool) -> None:
    deep = {"random_depths": {"high": 2}, "lora": {"targets": "later-iterations"}}
    recipe = recipe_with({"s": {**SFT, **deep}}, model=model)
    found = list(lora_mistakes(recipe, "s", recipe.stages["s"]))
    assert bool(found) is not there
    assert all("copy_core: true, or write all-linear" in mistake for mistake in found)


def test_a_plan_refuses_what_later_stages_would_train(tmp_path: Path) -> None:
    stages = {
        "first": SFT,
        "second": {**GRPO, "init": "first", "lora": {"targets": ["c_attn"]}},
    }
    assert "stages.second.lora.targets: the scratch model has no linear" in refusal(
        recipe_with(stages)
    )
    make_plan(recipe_with({**stages, "second": {**stages["second"], "lora": {}}}))


@pytest.mark.parametrize(
    ("lora", "words"),
    [
        ({"targets": []}, "targets is empty"),
        ({"targets": ["q_proj", "all-linear"]}, "stands alone"),
        ({"targets": ["q_proj", "later-iterations"]}, "stands alone"),
        ({"targets": "later-iterations"}, "it is for sft with random_depths"),
        ({"rank": 0}, "greater than 0"),
        ({"alpha": -1}, "greater than 0"),
        ({"dropout": 0.1}, "dropout"),
    ],
)
def test_settings_that_mean_nothing(lora: dict[str, Any], words: str) -> None:
    with pytest.raises(ValueError, match=words):
        recipe_with({"s": {**SFT, "lora": lora}})
