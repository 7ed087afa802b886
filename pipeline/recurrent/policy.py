"""The halting policy: a small head that reads the state and says how likely another iteration is.

Its decision after iteration i < cap is Bernoulli; the log-probability of a depth is the sum over
the decisions that led to it.
"""

from collections.abc import Mapping

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from transformers.models.llama.modeling_llama import LlamaRMSNorm

SCALARS = 3  # relative change of the state, ln(lambda), and its square


class HaltingPolicy(nn.Module):
    """Logit of going on, from the state, how far it moved, the iteration and ln(lambda)."""

    def __init__(self, hidden_size: int, *, width: int, max_iterations: int) -> None:
        super().__init__()
        self.norm = LlamaRMSNorm(hidden_size)
        self.state = nn.Linear(hidden_size, width)
        self.scalars = nn.Linear(SCALARS, width, bias=False)
        self.iteration = nn.Embedding(max_iterations + 1, width)
        self.out = nn.Linear(width, 1)

    @classmethod
    def of(cls, weights: Mapping[str, Tensor]) -> "HaltingPolicy":
        """The head of these weights (its `state_dict`), whose sizes they tell."""
        width, hidden = weights["state.weight"].shape
        head = cls(hidden, width=width, max_iterations=len(weights["iteration.weight"]) - 1)
        head.load_state_dict(weights)
        return head

    def forward(
        self, state: Tensor, previous: Tensor, iteration: Tensor, log_price: Tensor
    ) -> Tensor:
        """Logits [N], float32.

        Args:
            state: [N, h] after the iteration that just ended.
            previous: [N, h] before it.
            iteration: [N] the iteration that just ended, from 1.
            log_price: [N] ln(lambda).
        """
        change = torch.log(relative_change(state, previous) + 1e-6)
        price = log_price.to(change.dtype)
        scalars = torch.stack((change / 4, price / 4, (price / 4) ** 2), dim=-1)
        hidden = self.state(self.norm(state)) + self.iteration(iteration)
        hidden = hidden + self.scalars(scalars.to(hidden.dtype))
        return self.out(F.silu(hidden)).squeeze(-1).float()


def relative_change(state: Tensor, previous: Tensor) -> Tensor:
    """||s_i - s_(i-1)|| / ||s_i||, [N] from [N, h], float32."""
    moved = (state - previous).float().norm(dim=-1)
    return moved / state.float().norm(dim=-1).clamp_min(1e-12)


def decision_logprob(logit: Tensor, goes_on: Tensor) -> Tensor:
    """ln P(decision) of Bernoulli(sigmoid(logit)), float32 of `logit`'s shape."""
    return F.logsigmoid(torch.where(goes_on, logit, -logit))
