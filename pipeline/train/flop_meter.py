"""Counts tokens and FLOPs of a trainer's passes, from what its models are called with.

A hook before each forward call sees the token ids, the mask, positions and depths: what is counted
is what went through, a shared prompt once, padding never. A pass with gradients has a backward one.
"""

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel

from pipeline.measure.training_flops import TokenCost, Tokens, dense_cost, forward_flops
from pipeline.recurrent.config import RecurrentConfig
from pipeline.recurrent.shape import head_flops, shape_of, token_flops

BACKWARD, BACKWARD_OF_ADAPTERS = 2, 1
"""Products for each forward one: gradients of input and weight, or of a frozen weight's input."""


class FlopMeter:
    """Sums over passes since they were last taken, on this rank."""

    def __init__(self) -> None:
        self._tokens = 0
        self._flops = 0.0

    def watch(self, model: PreTrainedModel, *, adapted: bool = False) -> None:
        """Count the model's passes from now on; `adapted`: its own weights are frozen."""
        cost = token_cost(model)
        backward = BACKWARD_OF_ADAPTERS if adapted else BACKWARD

        def count(module: nn.Module, arguments: tuple[Any, ...], call: dict[str, Any]) -> None:
            ids = call.get("input_ids", arguments[0] if arguments else None)
            if not isinstance(ids, Tensor):
                return
            forward, graded = passed(model.config, ids, call)
            self._flops += forward_flops(cost, forward)
            if torch.is_grad_enabled() and model.training:
                self._flops += backward * forward_flops(cost, graded)
                self._tokens += forward.tokens

        model.register_forward_pre_hook(count, with_kwargs=True)

    def take(self) -> tuple[int, float]:
        """Tokens that were trained on and FLOPs of all passes, since the last take."""
        sums = self._tokens, self._flops
        self._tokens, self._flops = 0, 0.0
        return sums


def token_cost(model: PreTrainedModel) -> TokenCost:
    """What the model's tokens cost: of a recurrent one from its shape, else from its weights, those
    of experts by the share that a token passes. Weights in shards (ZeRO-3) cost nothing here."""
    head: Any = model.get_output_embeddings()
    if isinstance(model.config, RecurrentConfig):
        return _recurrent_cost(model.config, has_head=head is not None)
    config = model.config.get_text_config()
    sizes = config.to_dict()
    weights = sum(
        parameter.numel() * _share(sizes, parameter)
        for module in model.modules()
        if not isinstance(module, nn.Embedding)
        for parameter in module.parameters(recurse=False)
        if parameter.dim() > 1 and (head is None or parameter is not head.weight)
    )
    heads = config.num_attention_heads
    return dense_cost(
        weights=weights,
        head=0.0 if head is None else float(head.weight.numel()),
        layers=config.num_hidden_layers,
        heads=heads,
        head_size=sizes.get("head_dim") or config.hidden_size // heads,
    )


def _share(sizes: Mapping[str, Any], parameter: nn.Parameter) -> float:
    """Of a token: all of a matrix; of a layer's experts, which are one tensor, those it goes to."""
    each = sizes.get("num_experts_per_tok")
    return each / parameter.shape[0] if each and parameter.dim() == 3 else 1.0


def _recurrent_cost(config: RecurrentConfig, *, has_head: bool) -> TokenCost:
    shape = shape_of(config.to_dict())

    def cost(context: int, depth: int) -> float:
        return token_flops(shape, context=context, depth=depth, head=False)

    token, iteration = cost(0, 1), cost(0, 2) - cost(0, 1)
    return TokenCost(
        token=token,
        pair=cost(1, 1) - token,
        read=head_flops(shape) if has_head else 0.0,
        iteration=iteration,
        iteration_pair=cost(1, 2) - cost(1, 1) - iteration,
    )


def passed(config: Any, ids: Tensor, call: Mapping[str, Any]) -> tuple[Tokens, Tokens]:
    """What a call sends forward, and what of it has gradients: a recurrent model's may pass the
    last iterations alone."""
    batch, length = ids.shape
    mask, positions = call.get("attention_mask"), call.get("position_ids")
    if not isinstance(mask, Tensor) or mask.dim() != 2:
        mask = torch.ones_like(ids)
    real = mask[:, -length:].long()
    if isinstance(positions, Tensor):
        contexts = (positions + 1).expand(batch, length)
    else:
        contexts = mask.long().cumsum(1)[:, -length:]
    later = _later_iterations(config, ids, call)
    last = config.backprop_iterations if isinstance(config, RecurrentConfig) else None
    graded = later if last is None else later.clamp(max=last - 1)
    sums = [real, contexts * real, *(n * real for n in (later, graded))]
    sums += [n * contexts * real for n in (later, graded)]
    tokens, pairs, *iterations = torch.stack([part.sum() for part in sums]).tolist()  # one wait
    read = _read(call, tokens, batch)
    forward, backward = (
        Tokens(tokens=tokens, pairs=pairs, read=read, iterations=n, iteration_pairs=m)
        for n, m in zip(iterations[:2], iterations[2:], strict=True)
    )
    return forward, backward


def _later_iterations(config: Any, ids: Tensor, call: Mapping[str, Any]) -> Tensor:
    """[B, T] iterations after the first of every token; zero in a dense model."""
    if not isinstance(config, RecurrentConfig):
        return torch.zeros_like(ids)
    depths = call.get("depths")
    if not isinstance(depths, Tensor):
        return torch.full_like(ids, (call.get("num_iterations") or config.num_iterations) - 1)
    return (depths[:, None] if depths.dim() == 1 else depths).expand(ids.shape).long() - 1


def _read(call: Mapping[str, Any], tokens: int, batch: int) -> int:
    """Tokens whose logits are asked for."""
    keep = call.get("logits_to_keep", 0)
    if isinstance(keep, Tensor):
        return len(keep) * batch
    return min(keep * batch, tokens) if keep else tokens
