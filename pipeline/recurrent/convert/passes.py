"""A stored model for a few forward passes: a large one's layers come from its files as they run."""

from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from transformers import AutoConfig, AutoModelForCausalLM

from ..register import register
from .checkpoint import shards_of
from .tensor_files import opened

RESIDENT_BYTES = 2**29
"""Bytes of layers that are held; more are read again at every pass."""


def load_for_passes(folder: Path, *, dtype: torch.dtype | None = None) -> Any:
    """The model of a folder in evaluation mode, in the stored dtype unless another is given.

    Where its layers have more than `RESIDENT_BYTES`, one of them is in memory at a time, or the
    embedding, or the head, and the little that is beside them. Results are those of the model in
    memory, which it is where its files have other tensors than the model (joined experts). Passes
    keep no cache: a cache asks for keys and values of layers that do not run.
    """
    register()
    config = AutoConfig.from_pretrained(folder)
    config.use_cache = False
    with torch.device("meta"):
        model: Any = AutoModelForCausalLM.from_config(config, dtype=dtype or config.dtype)
    parts = _layers(model)
    files = _Files(folder, model)
    if sum(_size(part) for part in parts.values()) <= RESIDENT_BYTES or not files.fit:
        whole: Any = AutoModelForCausalLM
        return whole.from_pretrained(folder, config=config, dtype=dtype or "auto").eval()
    ends = (model.get_input_embeddings(), model.get_output_embeddings())
    parts |= {name: part for name, part in model.named_modules() if part in ends}
    for name, part in parts.items():
        part.register_forward_pre_hook(partial(files.fill, name))
        part.register_forward_hook(_empty)
    inside = {f"{name}.{own}" for name, part in parts.items() for own in part.state_dict()}
    _compute_buffers(model)
    rest = model.state_dict().keys() - inside
    model.load_state_dict(files.read({n: n for n in rest}), strict=False, assign=True)
    return model.eval()


class _Files:
    """A model's tensors in the files of its folder."""

    def __init__(self, folder: Path, model: Any) -> None:
        self._shards = shards_of(folder)
        self._dtype = model.dtype
        self._ties: Mapping[str, str] = model.all_tied_weights_keys
        with opened(self._shards) as stored:
            shapes = {name: tuple(f.get_slice(name).get_shape()) for name, f in stored.items()}
        needed = {self._stored(n): tuple(tensor.shape) for n, tensor in model.state_dict().items()}
        self.fit = all(shapes.get(name) == shape for name, shape in needed.items())

    def _stored(self, name: str) -> str:
        return self._ties.get(name, name)

    def read(self, names: Mapping[str, str]) -> dict[str, Tensor]:
        """Tensors by other names: that here -> that in the model."""
        with opened(self._shards) as stored:
            tensors = {
                here: stored[self._stored(name)].get_tensor(self._stored(name))
                for here, name in names.items()
            }
        return {n: t.to(self._dtype) if t.is_floating_point() else t for n, t in tensors.items()}

    def fill(self, name: str, part: nn.Module, _: Any) -> None:
        """Read what a part of the model holds, before it runs."""
        part.load_state_dict(self.read({n: f"{name}.{n}" for n in part.state_dict()}), assign=True)


def _layers(model: Any) -> dict[str, nn.Module]:
    kinds = set(model._no_split_modules or ())
    return {name: part for name, part in model.named_modules() if type(part).__name__ in kinds}


def _size(part: nn.Module) -> int:
    return sum(parameter.nbytes for parameter in part.parameters())


def _empty(part: nn.Module, *_: Any) -> None:
    """Drop what a part of the model holds, after it ran."""
    empty = {name: torch.empty_like(t, device="meta") for name, t in part.state_dict().items()}
    part.load_state_dict(empty, assign=True)


def _compute_buffers(model: Any) -> None:
    """Those that no file holds, such as rotary frequencies, as transformers does when it loads."""
    for module in model.modules():
        names = [n for n in module._non_persistent_buffers_set if module._buffers[n] is not None]
        for name in names:
            module._buffers[name] = torch.empty_like(module._buffers[name], device="cpu")
        if names:
            model._init_weights(module)
