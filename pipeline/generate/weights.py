"""Weights on the way to an engine: from a folder, or packed into bytes."""

import json
from collections.abc import Iterator, Mapping
from pathlib import Path

import safetensors
import safetensors.torch
from torch import Tensor

HEAD = "lm_head.weight"


def pack(weights: Mapping[str, Tensor]) -> bytes:
    """Weights as safetensors bytes. Tied tensors are written once each."""
    return safetensors.torch.save({k: v.detach().cpu().clone() for k, v in weights.items()})


def unpack(packed: bytes) -> list[tuple[str, Tensor]]:
    """The inverse of `pack`."""
    return list(safetensors.torch.load(packed).items())


def folder_weights(model: Path) -> Iterator[tuple[str, Tensor]]:
    """(checkpoint name, tensor) of a Hugging Face folder; a tied output head is named too."""
    tied = json.loads((model / "config.json").read_text()).get("tie_word_embeddings", False)
    embedding: Tensor | None = None
    named_head = False
    for file in sorted(model.glob("*.safetensors")):
        with safetensors.safe_open(file, framework="pt") as tensors:
            for name in tensors.keys():  # noqa: SIM118  not a mapping
                tensor = tensors.get_tensor(name)
                named_head |= name == HEAD
                if name.endswith("embed_tokens.weight"):
                    embedding = tensor
                yield name, tensor
    if tied and not named_head and embedding is not None:
        yield HEAD, embedding
