"""A model's weights as its file holds them: whole where ranks share them, adapters added in."""

import contextlib
import re
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

import torch
import torch.distributed as dist
from peft import PeftModel
from peft.tuners.lora import LoraLayer
from peft.tuners.lora.layer import ParamWrapper
from torch import Tensor, nn

ADAPTER_NAME = "default"  # peft's own
_WRAPPED = re.compile(r"\bbase_layer\.")
_COPY = f".modules_to_save.{ADAPTER_NAME}."
_NOT_STORED = (".lora_A.", ".lora_B.", ".original_module.")


def base_of(model: nn.Module) -> nn.Module:
    """The model itself, without peft's surroundings."""
    return model.get_base_model() if isinstance(model, PeftModel) else model


def full_weights(model: nn.Module) -> dict[str, Tensor]:
    """CPU copies of all that a model's weights file holds, by name; tied parameters once.

    Where adapters are trained, the weights with the adapters added: the trained model itself stays
    as it is, so that no rounding of adding and taking away collects in it.
    """
    base = base_of(model)
    adapted = _adapted(base)
    weights = {}
    for name, tensor in _stored(base).items():
        if any(part in name for part in _NOT_STORED):
            continue
        layer = adapted.get(id(tensor))
        parts = [tensor] if layer is None else [tensor, *_factors(layer)]
        with _gathered(parts, write=False):
            value = tensor.detach() if layer is None else _merged(tensor, layer)
            plain = _WRAPPED.sub("", name).replace(_COPY, ".")
            weights[plain] = value.cpu().clone().contiguous()
    return weights


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
            if writes:
                tensor.data.copy_(weights[name])


def trained_weights(model: nn.Module) -> dict[str, Tensor]:
    """CPU copies of the parameters that learn, by name, whole on every rank."""
    weights = {}
    for name, parameter in model.named_parameters():
        if parameter.requires_grad:
            with _gathered([parameter], write=False):
                weights[name] = parameter.detach().cpu().clone().contiguous()
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


@contextlib.contextmanager
def _gathered(tensors: Iterable[Tensor], *, write: bool) -> Iterator[bool]:
    """Surroundings in which sharded parameters are whole; the value tells whether to write.

    Under ZeRO-3 rank 0 writes and the others receive. Whole tensors are written by every rank.
    """
    sharded = [tensor for tensor in tensors if "ds_id" in vars(tensor)]
    if not sharded:
        yield True
        return
    import deepspeed  # takes seconds, and only sharded runs need it

    with deepspeed.zero.GatheredParameters(sharded, modifier_rank=0 if write else None):
        yield dist.get_rank() == 0
