"""What the core reads, and what its output does to the state."""

from collections.abc import Callable

import torch
from torch import Tensor, nn

from .config import RecurrentConfig


def plain_linear(inputs: int, outputs: int) -> nn.Module:
    """Torch's linear map without a bias."""
    return nn.Linear(inputs, outputs, bias=False)


class Injection(nn.Module):
    """See `RecurrentConfig`. `linear` builds the adapter: vLLM brings a layer of its own."""

    def __init__(
        self,
        config: RecurrentConfig,
        *,
        linear: Callable[[int, int], nn.Module] = plain_linear,
    ) -> None:
        super().__init__()
        self.kind = config.injection
        width = config.hidden_size
        if self.kind in ("linear", "gated"):
            self.adapter = linear(2 * width, width)
        if self.kind == "gated":
            self.gate = nn.Parameter(torch.full((width,), 0.5))

    def read(self, state: Tensor, embedded: Tensor, *, first: bool) -> Tensor:
        """The core's input, from the state and the prelude's output."""
        if self.kind == "none":
            return state
        if self.kind == "add":
            return state + embedded
        if self.kind == "gated" and first:
            return embedded
        return self.adapter(torch.cat((state, embedded), dim=-1))

    def write(self, state: Tensor, out: Tensor, *, first: bool) -> Tensor:
        """The next state, from the state and the core's output."""
        if self.kind == "gated" and not first:
            return state + self.gate * (out - state)
        return out
