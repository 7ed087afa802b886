"""The decisions of many completions as flat tensors: what the halting head reads, and did.

Shapes: `_N` decisions, h hidden size. Everything is on the CPU and in float32, whatever the frozen
model computes in: the head is trained in float32.
"""

from dataclasses import dataclass, fields

import torch
from torch import Tensor

from pipeline.recurrent.policy import HaltingPolicy, decision_logprob


@dataclass(frozen=True, kw_only=True)
class Features:
    """Decisions in the order of the rollouts, then of their tokens, then of iterations."""

    state: Tensor  # [_N, h] after the iteration that had just ended
    previous: Tensor  # [_N, h] before it
    iteration: Tensor  # [_N] int64, from 1
    log_price: Tensor  # [_N] ln(lambda)
    goes_on: Tensor  # [_N] bool, what was decided
    token: Tensor  # [_N] int64 index of the generated token
    rollout: Tensor  # [_N] int64 index of the completion

    def __len__(self) -> int:
        return len(self.iteration)

    def at(self, index: Tensor, *, device: str = "cpu") -> "Features":
        """Some of the decisions, on a device."""
        return Features(**{f.name: getattr(self, f.name)[index].to(device) for f in fields(self)})

    def logits(self, head: HaltingPolicy, *, log_price: Tensor | None = None) -> Tensor:
        """Logits [_N] of going on, told the recorded prices or others [_N]."""
        price = self.log_price if log_price is None else log_price
        return head(self.state, self.previous, self.iteration, price)


@torch.no_grad()
def all_logits(
    features: Features, head: HaltingPolicy, *, device: str, chunk: int = 65_536
) -> Tensor:
    """Logits [_N] of every decision, a chunk at a time, on the CPU."""
    chunks = torch.arange(len(features)).split(chunk)
    return torch.cat([features.at(c, device=device).logits(head).cpu() for c in chunks])


def token_logprobs(features: Features, logit: Tensor) -> dict[tuple[int, int], float]:
    """Log-probability of each token's depth, the sum over its decisions, by (rollout, token)."""
    width = int(features.token.max()) + 1 if len(features) else 1
    key = features.rollout * width + features.token
    keys, where = key.unique(return_inverse=True)
    sums = torch.zeros(len(keys), dtype=torch.double)
    sums.index_add_(0, where, decision_logprob(logit, features.goes_on).double())
    return {divmod(k, width): s for k, s in zip(keys.tolist(), sums.tolist(), strict=True)}
