"""A model's weights as its file holds them: whole where ranks share them, adapters added in."""

import contextlib
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import torch
import torch.distributed as dist
from peft import PeftModel
from peft.tuners.lora import LoraLayer
from peft.tuners.lora.layer import ParamWrapper
from torch import Tensor, nn
from torch.distributed.tensor import DTensor, distribute_tensor

ADAPTER_NAME = "default"  # peft's own
_WRAPPED = re.compile(r"\bbase_layer\.")
_COPY = f".modules_to_save.{ADAPTER_NAME}."
_NOT_STORED = (".lora_A.", ".lora_B.", ".original_module.")


def base_of(model: nn.Module) -> nn.Module:
    """The model itself, without peft's surroundings."""
    return model.get_base_model() if isinstance(model, PeftModel) else model


@dataclass(frozen=True, kw_only=True)
class WholeTensor:
    """What a weights file holds of a model: a tensor that ranks may share, with the adapter on it
    that is trained. The model itself stays as it is, so that no rounding of adding and taking away
    collects in it."""

    tensor: Tensor
    layer: LoraLayer | None

    @property
    def empty(self) -> Tensor:
        """Its shape and dtype, on the device "meta"."""
        shape = vars(self.tensor).get("ds_shape", self.tensor.shape)  # DeepSpeed's word for whole
        return torch.empty(shape, dtype=self.tensor.dtype, device="meta")

    def read(self, *, copied: bool = True) -> Tensor:
        """The whole of it on the CPU, on every rank, and every rank must ask; not `copied`, the
        model's own memory where it is there."""
        parts = [self.tensor] if self.layer is None else [self.tensor, *_factors(self.layer)]
        with _gathered(parts, write=False):
            if self.layer is not None:
                return _unsharded(_merged(self.tensor, self.layer)).cpu().contiguous()
            here = _unsharded(self.tensor.detach()).cpu()
            return (here.clone() if copied or _is_shared(self.tensor) else here).contiguous()


def whole_tensors(model: nn.Module) -> dict[str, WholeTensor]:
    """All that a model's weights file holds, by name; tied parameters once."""
    base = base_of(model)
    adapted = _adapted(base)
    return {
        _WRAPPED.sub("", name).replace(_COPY, "."): WholeTensor(
            tensor=tensor, layer=adapted.get(id(tensor))
        )
        for name, tensor in _stored(base).items()
        if not any(part in name for part in _NOT_STORED)
    }


def full_weights(model: nn.Module) -> dict[str, Tensor]:
    """CPU copies of all that a model's weights file holds, by name, with adapters added."""
    return {name: whole.read() for name, whole in whole_tensors(model).items()}


def load_weights(model: nn.Module, weights: Mapping[str, Tensor]) -> None:
    """Set everything that `full_weights` gives, in a model without adapters.

    Raises:
        ValueError: the names differ from the model's.
    """
    stored = _stored(model)
    if stored.keys() != weights.keys():
        odd = ", ".join(sorted(stored.keys() ^ weights.keys())[:5])
        raise ValueError(f"these weights belong to another model; names that differ: {odd}")
    for name, tensor in stored.items():
        with _gathered([tensor], write=True) as writes:
            if isinstance(tensor, DTensor):
                new = weights[name].to(tensor.device, tensor.dtype)
                tensor.data.copy_(distribute_tensor(new, tensor.device_mesh, tensor.placements))
            elif writes:
                tensor.data.copy_(weights[name])


def trained_weights(model: nn.Module) -> dict[str, Tensor]:
    """CPU copies of the parameters that learn, by name, whole on every rank."""
    weights = {}
    for name, parameter in model.named_parameters():
        if parameter.requires_grad:
            with _gathered([parameter], write=False):
                weights[name] = _unsharded(parameter.detach()).cpu().clone().contiguous()
    return weights


def _adapted(base: nn.Module) -> dict[int, LoraLayer]:
    """Adapters by the id of the weight that they stand on: a linear layer's, or that of all of a
    layer's experts, which peft wraps one in the other."""
    return {
        id(module.get_param() if isinstance(module, ParamWrapper) else _weight(module)): module
        for module in base.modules()
        if isinstance(module, LoraLayer)
    }


def _weight(layer: Any) -> Tensor:
    return layer.get_base_layer().weight


def _factors(layer: Any) -> list[Tensor]:
    return [layer.lora_A[ADAPTER_NAME].weight, layer.lora_B[ADAPTER_NAME].weight]


@torch.no_grad()
def _merged(weight: Tensor, layer: Any) -> Tensor:
    """A weight with its adapter's product added, rounded once, to the weight's own dtype."""
    change = layer.get_delta_weight(ADAPTER_NAME)
    wide = torch.promote_types(weight.dtype, change.dtype)
    return (weight.detach().to(wide) + change.to(wide)).to(weight.dtype)


def _stored(model: nn.Module) -> dict[str, Tensor]:
    """Parameters and persistent buffers."""
    saved = model.state_dict().keys()
    buffers = {name: buffer for name, buffer in model.named_buffers() if name in saved}
    return dict(model.named_parameters()) | buffers


def _unsharded(tensor: Tensor) -> Tensor:
    """The whole of a tensor of which FSDP2 gives each rank a part; every rank must ask."""
    return tensor.full_tensor() if isinstance(tensor, DTensor) else tensor


def _is_shared(tensor: Tensor) -> bool:
    """Whether ranks hold shards of it (ZeRO-3)."""
    return "ds_id" in vars(tensor)


@contextlib.contextmanager
def _gathered(tensors: Iterable[Tensor], *, write: bool) -> Iterator[bool]:
    """Surroundings in which sharded parameters are whole; the value tells whether to write.

    Under ZeRO-3 rank 0 writes and the others receive. Whole tensors are written by every rank.
    """
    sharded = [tensor for tensor in tensors if _is_shared(tensor)]
    if not sharded:
        yield True
        return
    import deepspeed  # takes seconds, and only sharded runs need it

    with deepspeed.zero.GatheredParameters(sharded, modifier_rank=0 if write else None):
        yield dist.get_rank() == 0
