"""A base model that cannot be loaded is one sentence that names the file and the fix."""

import json
import pickle
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from safetensors.torch import load_file, save_file
from torch import Tensor

from pipeline.errors import WRONG
from pipeline.models.materialize import materialize
from pipeline.models.model_folder import ModelError, check_folder
from pipeline.recipe.model_source import ModelSource

Break = Callable[[Path], object]
WEIGHTS = "model.safetensors"
INDEX = "model.safetensors.index.json"


def configured(**changes: Any) -> Break:
    def change(folder: Path) -> None:
        file = folder / "config.json"
        file.write_text(json.dumps(json.loads(file.read_text()) | changes))

    return change


def reweighed(change: Callable[[dict[str, Tensor]], object]) -> Break:
    def rewrite(folder: Path) -> None:
        weights = load_file(folder / WEIGHTS)
        change(weights)
        save_file(weights, folder / WEIGHTS, metadata={"format": "pt"})

    return rewrite


def written(name: str, text: str) -> Break:
    return lambda folder: (folder / name).write_text(text)


def without(name: str) -> Break:
    return lambda folder: (folder / name).unlink()


def cut_off(folder: Path) -> None:
    file = folder / WEIGHTS
    file.write_bytes(file.read_bytes()[:2000])


def pickled(folder: Path) -> None:
    (folder / WEIGHTS).unlink()
    (folder / "pytorch_model.bin").write_text("no pickle")


POINTER = "version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 9\n"
BROKEN: dict[str, tuple[Break, str]] = {
    "no folder": (shutil.rmtree, "does not exist"),
    "no config": (without("config.json"), r"has no config\.json"),
    "no weights": (without(WEIGHTS), r"has no weights: model\.safetensors is missing"),
    "no tokenizer": (without("tokenizer.json"), r"has no tokenizer: tokenizer\.json is missing"),
    "weights cut off": (cut_off, r"model\.safetensors is cut off .*git lfs pull"),
    "a Git LFS pointer": (written(WEIGHTS, POINTER), r"no safetensors file .*git lfs pull"),
    "a broken pickle": (pickled, "cannot be loaded .* download it again"),
    "config no JSON": (written("config.json", "{"), r"config\.json is no JSON .* download"),
    "config no object": (written("config.json", "[]"), r"config\.json must hold a JSON object"),
    "config of a wrong type": (configured(hidden_size="many"), "'hidden_size' expected int"),
    "unknown type": (configured(model_type="nosuch"), "model_type 'nosuch', which transformers"),
    "no type": (configured(model_type=None), "model_type None, which transformers"),
    "code of its own": (
        configured(model_type="other", auto_map={"AutoConfig": "configuration.Other"}),
        "needs code of its own, .* trust_remote_code: true",
    ),
    "no language model": (configured(model_type="vit"), "'vit' is no causal language model"),
    "another width": (
        configured(hidden_size=64),
        r"model\.embed_tokens\.weight has the shape \[102, 32\], not \[102, 64\]; .* and 8 more",
    ),
    "a tensor missing": (
        reweighed(lambda weights: weights.pop("model.norm.weight")),
        r"config\.json describes: model\.norm\.weight is missing: download",
    ),
    "tokenizer no JSON": (written("tokenizer.json", "{"), r"tokenizer\.json is no JSON"),
    "tokenizer empty": (written("tokenizer.json", "{}"), "cannot be read .* put the model's own"),
    "index no JSON": (written(INDEX, "{"), r"index\.json is no JSON"),
    "index empty": (written(INDEX, "{}"), r"index\.json has no weight_map"),
    "a shard missing": (
        written(INDEX, json.dumps({"weight_map": {"a": WEIGHTS, "b": "model-2.safetensors"}})),
        r"has no model-2\.safetensors, which its index names",
    ),
}


@pytest.mark.parametrize("kind", BROKEN)
def test_a_broken_folder_is_a_sentence(folder: Path, tmp_path: Path, kind: str) -> None:
    broken = tmp_path / "broken"
    shutil.copytree(folder, broken)
    spoil, sentence = BROKEN[kind]
    spoil(broken)
    with pytest.raises(ModelError, match=rf"{broken}.*{sentence}") as caught:
        materialize(ModelSource(path=str(broken)), tmp_path / "out")
    assert "\n" not in str(caught.value)
    assert caught.value.exit_code == WRONG
    assert not (tmp_path / "out").exists()
    assert str(pickle.loads(pickle.dumps(caught.value))) == str(caught.value)  # crosses processes


@pytest.mark.parametrize("hub", ["nobody/nothing", "a name of no kind", "one/too/many"])
def test_an_unreachable_hub_id_is_a_sentence(
    hub: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    with pytest.raises(ModelError, match=f"{hub} .* give its folder") as caught:
        materialize(ModelSource(hub=hub), tmp_path / "out")
    assert "\n" not in str(caught.value)


def test_a_whole_folder_passes(folder: Path) -> None:
    check_folder(folder)
