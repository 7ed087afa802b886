"""Labels for going on, from how much an iteration improves the loss of the token that follows."""

import torch
from torch import Tensor

SHARPNESS, MARGIN = 50.0, 0.005
"""Of Ouro's labels: sigmoid(50 (I - 0.005)), arXiv 2510.25741, section 3.3."""


def step_labels(losses: Tensor, *, margin: float | Tensor = MARGIN) -> Tensor:
    """Ouro's labels: how likely iteration i + 1 is worth its cost, [_R - 1, ...] in [0, 1].

    `losses` [_R, ...] is the next token's loss, in nats, if the position left after 1, 2, ..., _R
    iterations. Label i looks at the gain of the very next iteration, over a `margin` in nats, one
    for all or [...].
    """
    gain = (losses[:-1] - losses[1:]).clamp_min(0)
    return torch.sigmoid(SHARPNESS * (gain - margin))


def best_labels(losses: Tensor, *, price: float | Tensor) -> Tensor:
    """Whether any later iteration is worth it at `price` nats each, [_R - 1, ...] of 0 and 1.

    One price for all, or [...].

    Looks past a flat step: the best of what is still to come, less what it costs to get there.
    Ours: a chain of look-ups gains nothing until its last.
    """
    depths = torch.arange(1, len(losses) + 1, device=losses.device, dtype=losses.dtype)
    total = losses + price * depths.view(-1, *[1] * (losses.dim() - 1))
    later = total.flip(0).cummin(0).values.flip(0)[1:]  # best total cost from i + 1 on
    return (later < total[:-1]).to(losses.dtype)
