"""Log-probability and entropy of chosen tokens, with one buffer of the logits' size."""

from typing import Any

import torch
from torch import Tensor


class _TokenLogprobs(torch.autograd.Function):
    """Keeps the probabilities, which the backward pass turns into the gradient in place."""

    @staticmethod
    def forward(ctx: Any, logits: Tensor, targets: Tensor) -> tuple[Tensor, Tensor]:
        total = logits.logsumexp(-1)
        chosen = logits.gather(-1, targets[:, None])[:, 0]
        chances = (logits - total[:, None]).exp_()
        entropy = total - torch.linalg.vecdot(chances, logits)
        ctx.save_for_backward(chances, targets)
        ctx.mark_non_differentiable(entropy)
        return chosen - total, entropy

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None]:
        chances, targets = ctx.saved_tensors
        weight = gradients[0][:, None]
        out = chances.mul_(-weight)  # used once
        out.scatter_add_(-1, targets[:, None], weight)
        return out, None


def token_logprobs(logits: Tensor, targets: Tensor, *, temperature: float) -> tuple[Tensor, Tensor]:
    """[N] float32 log-probabilities of `targets` [N] under softmax(logits [N, V] / temperature),
    and the entropy [N] of that distribution in nats, which carries no gradient.

    The backward pass may run once.
    """
    scaled = logits.float()
    if temperature != 1.0:
        scaled = scaled / temperature
    return _TokenLogprobs.apply(scaled, targets)  # pyright: ignore[reportReturnType]
