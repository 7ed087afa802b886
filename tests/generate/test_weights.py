"""What an engine is sent has the names and tensors of a weights file, whatever the family."""

import pickle
from pathlib import Path

import numpy as np
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


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.int64, torch.bool])
def test_packing_turns_back(dtype: torch.dtype) -> None:
    weights = {
        "matrix": (torch.arange(6) % 2).view(2, 3).to(dtype),
        "across": (torch.arange(6) % 3).view(2, 3).to(dtype).T,
        "scalar": torch.tensor(1).to(dtype),
        "nothing": torch.zeros(0, 4).to(dtype),
    }
    back = dict(unpack(pickle.loads(pickle.dumps(pack(weights)))))
    assert back.keys() == weights.keys()
    for name, tensor in weights.items():
        assert back[name].dtype == dtype
        assert torch.equal(back[name], tensor)


def test_tied_tensors_are_sent_once_and_arrive_apart_from_what_was_sent() -> None:
    embedding = torch.randn(8, 4)
    packed = pack({"embedding": embedding, "head": embedding, "half": embedding[:4]})
    assert packed["head"].data is packed["embedding"].data
    assert np.shares_memory(packed["head"].data, embedding.numpy())  # Ray makes the one copy
    back = dict(unpack(packed))
    back["head"].zero_()
    assert torch.equal(back["embedding"], embedding)
    assert torch.equal(back["half"], embedding[:4])


def test_what_the_object_store_hands_out_is_not_written_to() -> None:
    packed = pack({"a": torch.ones(3)})
    packed["a"].data.flags.writeable = False  # as Ray's are
    [(_, tensor)] = unpack(packed)
    tensor.add_(1)
    assert packed["a"].data.view(np.float32).tolist() == [1.0, 1.0, 1.0]
