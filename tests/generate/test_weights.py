"""What an engine is sent has the names and tensors of a weights file, whatever the family."""

from pathlib import Path

import pytest
import safetensors.torch
import torch

from pipeline.generate.weights import checkpoint_weights, folder_weights, pack, unpack
from pipeline.train.callbacks import full_weights
from tests.tiny_families import FAMILIES, write_family

QUICK = ("llama", "gemma2", "mixtral", "gpt2")
"""A head of its own or tied, joined experts, and names of another kind; the others are slow."""


@pytest.mark.parametrize(
    "family",
    [f if f in QUICK else pytest.param(f, marks=pytest.mark.slow) for f in FAMILIES],
)
def test_a_model_is_sent_as_its_folder_is_written(family: str, tmp_path: Path) -> None:
    model = write_family(family, tmp_path)
    file = safetensors.torch.load_file(tmp_path / "model.safetensors")
    sent = checkpoint_weights(model, full_weights(model))
    head = sent.keys() - file.keys()
    assert head == ({"lm_head.weight"} if model.config.tie_word_embeddings else set())
    assert file.keys() <= sent.keys()
    assert all(torch.equal(sent[name], tensor) for name, tensor in file.items())
    read = dict(folder_weights(tmp_path))
    assert read.keys() == sent.keys()
    assert all(torch.equal(sent[name], tensor) for name, tensor in read.items())


def test_packing_turns_back() -> None:
    weights = {"a": torch.ones(2, 3), "b": torch.arange(4.0)}
    back = dict(unpack(pack(weights)))
    assert back.keys() == weights.keys()
    assert all(torch.equal(back[name], tensor) for name, tensor in weights.items())
