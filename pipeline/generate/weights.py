"""Weights on the way to an engine: from a folder or a model, by the names of its weights file."""

import re
from collections.abc import Iterator, Mapping
from pathlib import Path

import numpy as np
import safetensors
import torch
from numpy.typing import NDArray
from torch import Tensor
from transformers import AutoConfig, AutoModelForCausalLM, PreTrainedModel
from transformers.core_model_loading import revert_weight_conversion

from pipeline.generate.packed_weights import PackedTensor, PackedWeights
from pipeline.recurrent.register import register

BUCKET_BYTES = 2**28
"""Of weights that travel together, unless one tensor has more, or one layer where files have other
tensors than the model: little beside a large model, and enough that messages cost nothing beside
the bytes."""

_LAYER = re.compile(r"^(.*?\.\d+)\.")


def pack(weights: Mapping[str, Tensor]) -> PackedWeights:
    """Weights for another process. Those on a CPU are not copied: they must stay as they are until
    the result is sent. Tensors of one memory, as tied ones, are sent once."""
    arrays: dict[tuple[int, int], NDArray[np.uint8]] = {}
    packed = {}
    for name, weight in weights.items():
        tensor = weight.detach().cpu().contiguous()
        data = tensor.reshape(-1).view(torch.uint8).numpy()
        packed[name] = PackedTensor(
            data=arrays.setdefault((tensor.data_ptr(), data.size), data),
            dtype=str(tensor.dtype).removeprefix("torch."),
            shape=tuple(tensor.shape),
        )
    return packed


def unpack(packed: PackedWeights) -> Iterator[tuple[str, Tensor]]:
    """Copies of what `pack` was given, one after another: the object store's own memory must not be
    written to."""
    for name, part in packed.items():
        tensor = torch.empty(part.shape, dtype=getattr(torch, part.dtype))
        tensor.view(-1).view(torch.uint8).numpy()[:] = part.data
        yield name, tensor


def checkpoint_weights(model: PreTrainedModel, weights: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """A model's weights as its `save_pretrained` would write them, and its tied output head too.

    Engines know the names and shapes of files. transformers has others for some families while
    they run: it joins the experts of a layer into one tensor, for example. An engine reloads layer
    by layer and would keep its old head if only the embedding came.
    """
    stored = {name: tensor for name, tensor in weights.items() if name not in _unsaved(model)}
    for tied, source in model.all_tied_weights_keys.items():
        if source in stored:
            stored[tied] = stored[source]
    return revert_weight_conversion(model, stored)


def buckets(
    model: PreTrainedModel, weights: Mapping[str, Tensor], *, bucket_bytes: int
) -> list[list[str]]:
    """Names of a model's weights in the groups that `checkpoint_weights` can take one by one, in
    the model's order. `weights` has shapes and dtypes alone, on the device "meta".

    Where a family's files have other tensors than the model, those of a layer stay together, as
    they may be joined from several.
    """
    sent = checkpoint_weights(model, weights)
    plain = all(name in sent and sent[name].shape == w.shape for name, w in weights.items())
    units: dict[str, list[str]] = {}
    for name in weights:
        layer = None if plain else _LAYER.match(name)
        units.setdefault(layer[1] if layer else name, []).append(name)
    groups: list[list[str]] = []
    room = 0
    for names in units.values():
        size = sum(weights[name].nbytes for name in names)
        if not groups or size > room:
            groups.append([])
            room = bucket_bytes
        groups[-1] += names
        room -= size
    return groups


def folder_weights(folder: Path, *, own_code: bool = False) -> Iterator[tuple[str, Tensor]]:
    """(name, tensor) of a Hugging Face folder's files; a tied output head is named too."""
    ties = _ties(folder, own_code=own_code)
    names: set[str] = set()
    sources: dict[str, Tensor] = {}
    for file in sorted(folder.glob("*.safetensors")):
        with safetensors.safe_open(file, framework="pt") as tensors:
            for name in tensors.keys():  # noqa: SIM118  not a mapping
                tensor = tensors.get_tensor(name)
                names.add(name)
                if name in ties.values():
                    sources[name] = tensor
                yield name, tensor
    for tied, source in ties.items():
        if tied not in names and source in sources:
            yield tied, sources[source]


def _ties(folder: Path, *, own_code: bool) -> dict[str, str]:
    """Which tensor of a folder's file each tied one equals, by their names in the file."""
    register()
    config = AutoConfig.from_pretrained(folder, trust_remote_code=own_code)
    with torch.device("meta"):
        model = AutoModelForCausalLM.from_config(config, trust_remote_code=own_code)
    return {
        _stored_name(model, tied): _stored_name(model, source)
        for tied, source in model.all_tied_weights_keys.items()
    }


def _stored_name(model: PreTrainedModel, name: str) -> str:
    """The name in a weights file of one tensor that is stored as it is."""
    [stored] = revert_weight_conversion(model, {name: torch.empty(0)})
    return stored


def _unsaved(model: PreTrainedModel) -> set[str]:
    return set(model._keys_to_ignore_on_save or ())
