"""What the model's forward pass returns."""

import dataclasses
from collections.abc import Sequence

import torch
from torch import Tensor
from transformers.utils import ModelOutput

from .cache import RecurrentCache


@dataclasses.dataclass
class RecurrentOutput(ModelOutput):
    """What the backbone and the language model return; absent fields are None."""

    loss: Tensor | None = None
    logits: Tensor | None = None  # [B, T, V]
    last_hidden_state: Tensor | None = None  # [B, T, h] after the final norm
    past_key_values: RecurrentCache | None = None
    hidden_states: tuple[Tensor, ...] | None = None  # states [B, T, h] s_0, s_1, ... on request
    attentions: tuple[Tensor, ...] | None = None  # never given; transformers' heads look for it
    depths: Tensor | None = None  # [B, T] int64, iterations that each position ran
    depth_logprobs: Tensor | None = None  # [B, T] of the sampled policy's decisions


def joined(outputs: Sequence[RecurrentOutput]) -> RecurrentOutput:
    """Outputs of consecutive positions as one; states of different numbers are not joined."""
    logprobs = [
        torch.zeros_like(output.depths, dtype=torch.float32)
        if output.depth_logprobs is None
        else output.depth_logprobs
        for output in outputs
        if output.depths is not None
    ]
    return RecurrentOutput(
        last_hidden_state=_along_tokens([output.last_hidden_state for output in outputs]),
        past_key_values=outputs[-1].past_key_values,
        depths=_along_tokens([output.depths for output in outputs]),
        depth_logprobs=_along_tokens(logprobs),
    )


def _along_tokens(pieces: Sequence[Tensor | None]) -> Tensor | None:
    tensors = [piece for piece in pieces if piece is not None]
    return torch.cat(tensors, dim=1) if len(tensors) == len(pieces) else None
