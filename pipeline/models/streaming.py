"""A stored model as a folder of ours, a few tensors at a time: no process holds it whole.

transformers loads the model without its data, which checks every name and shape. The tensors then
pass from the stored files into files of our own, in the dtype that is asked for.
"""

import json
from collections.abc import Collection, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import torch
from huggingface_hub import split_torch_state_dict_into_shards
from safetensors import safe_open
from safetensors.torch import save_file
from torch import Tensor
from transformers import PreTrainedModel

from pipeline.models.stored_files import json_object

SINGLE, INDEX = "model.safetensors", "model.safetensors.index.json"
FILE_BYTES = 2**28
"""Bytes of a file that is written, which is what is in memory at a time, unless one tensor has
more."""


def can_stream(folder: Path) -> bool:
    """Whether a model folder holds plain tensors in safetensors files. Pickled ones cannot be read
    one by one, and quantized ones mean nothing in another dtype."""
    plain = "quantization_config" not in json_object(folder / "config.json")
    return plain and any(folder.glob("model*.safetensors"))


def save_streamed(
    model: PreTrainedModel, folder: Path, out: Path, *, leave_out: Collection[str]
) -> None:
    """Write the model of ``folder`` to ``out``: the configuration of ``model``, which holds no data
    (`device_map="meta"`), and the folder's tensors in ``model``'s dtype.

    ``leave_out`` names stored tensors that the model has no use for; tied ones are left out too.
    """
    model.save_pretrained(out, state_dict={})  # all but the weights
    useless = {*leave_out, *model.all_tied_weights_keys}
    with _opened(folder) as stored:
        shapes = {name: file.get_slice(name).get_shape() for name, file in stored.items()}
    planned = split_torch_state_dict_into_shards(
        {
            name: torch.empty(shape, dtype=model.dtype, device="meta")
            for name, shape in shapes.items()
            if name not in useless
        },
        max_shard_size=FILE_BYTES,
    )
    for file, names in planned.filename_to_tensors.items():
        with _opened(folder) as stored:  # anew, as the pages of an open file count as memory
            tensors = {name: _cast(stored[name].get_tensor(name), model.dtype) for name in names}
            save_file(tensors, out / file, metadata={"format": "pt"})
        del tensors
    if planned.is_sharded:
        index = {"metadata": planned.metadata, "weight_map": planned.tensor_to_filename}
        (out / INDEX).write_text(json.dumps(index, indent=2) + "\n")


@contextmanager
def _opened(folder: Path) -> Iterator[dict[str, Any]]:
    """The open file of each tensor, by the tensor's name: of the index's files, or of the one."""
    files = {SINGLE}
    if (folder / INDEX).is_file():
        files = set(json_object(folder / INDEX)["weight_map"].values())
    with ExitStack() as stack:
        opened = [stack.enter_context(safe_open(folder / file, "pt")) for file in sorted(files)]
        yield {name: file for file in opened for name in list(file.keys())}


def _cast(tensor: Tensor, dtype: torch.dtype) -> Tensor:
    return tensor.to(dtype) if tensor.is_floating_point() else tensor
