"""A stored model as a folder of ours, a few tensors at a time: no process holds it whole.

transformers loads the model without its data, which checks every name and shape. The tensors then
pass from the stored files into files of our own, in the dtype that is asked for.
"""

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor
from transformers import PreTrainedModel

from pipeline.models.stored_files import json_object
from pipeline.recurrent.convert.tensor_files import INDEX, SINGLE, opened, write_tensors


@dataclass(frozen=True, kw_only=True)
class Rows:
    """Other rows for a stored tensor."""

    count: int
    of: Callable[[Tensor], Tensor]  # [before, ...] -> [count, ...]


def can_stream(folder: Path) -> bool:
    """Whether a model folder holds plain tensors in safetensors files. Pickled ones cannot be read
    one by one, and quantized ones mean nothing in another dtype."""
    plain = "quantization_config" not in json_object(folder / "config.json")
    return plain and any(folder.glob("model*.safetensors"))


def save_streamed(
    model: PreTrainedModel,
    out: Path,
    *,
    folder: Path,
    leave_out: Collection[str] = (),
    rows: Mapping[str, Rows] | None = None,
) -> None:
    """Write the model of ``folder`` to ``out``: the configuration of ``model``, which holds no data
    (`device_map="meta"`), and the folder's tensors in ``model``'s dtype.

    ``leave_out`` names stored tensors that the model has no use for; tied ones are left out too.
    ``rows`` replaces rows of those that it names.
    """
    rows = rows or {}
    files = stored_files(folder)
    useless = {*leave_out, *model.all_tied_weights_keys}
    with opened(files) as stored:
        shapes = {name: file.get_slice(name).get_shape() for name, file in stored.items()}

    def read(names: Sequence[str]) -> Mapping[str, Tensor]:
        with opened(files) as stored:
            tensors = {name: stored[name].get_tensor(name) for name in names}
        return {n: rows[n].of(tensor) if n in rows else tensor for n, tensor in tensors.items()}

    planned = {
        name: [rows[name].count, *shape[1:]] if name in rows else shape
        for name, shape in shapes.items()
        if name not in useless
    }
    save_tensors(model, out, shapes=planned, read=read)


def save_tensors(
    model: PreTrainedModel,
    out: Path,
    *,
    shapes: Mapping[str, Sequence[int]],
    read: Callable[[Sequence[str]], Mapping[str, Tensor]],
) -> None:
    """Write to ``out`` the configuration of ``model``, which holds no data, and in its dtype the
    tensors of these ``shapes``, a few of which ``read`` gives at a time, by name."""
    dtype = model.dtype
    model.save_pretrained(out, state_dict={})  # all but the weights
    write_tensors(
        {name: torch.empty(shape, dtype=dtype, device="meta") for name, shape in shapes.items()},
        out,
        lambda names: {name: _cast(tensor, dtype) for name, tensor in read(names).items()},
    )


def stored_tensor(folder: Path, name: str) -> Tensor:
    """One tensor of a folder."""
    with opened(stored_files(folder)) as stored:
        return stored[name].get_tensor(name)


def stored_files(folder: Path) -> list[Path]:
    """Those that hold a folder's tensors: the index's, or the one."""
    files = {SINGLE}
    if (folder / INDEX).is_file():
        files = set(json_object(folder / INDEX)["weight_map"].values())
    return [folder / file for file in sorted(files)]


def _cast(tensor: Tensor, dtype: torch.dtype) -> Tensor:
    return tensor.to(dtype) if tensor.is_floating_point() else tensor
