"""Distributions of the number of iterations in training."""

from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor


@dataclass(frozen=True, kw_only=True)
class DepthDistribution:
    """How many iterations a training sequence runs.

    - "log_normal_poisson": Poisson(exp(N(ln mean - spread^2 / 2, spread))) + 1 (Huginn,
      arXiv 2502.05171, section 3.3), mean about `mean` + 1;
    - "uniform": every depth from `low` to `high` alike (ours).

    Draws under `low` become `low`, draws over `high` become `high`.

    Raises ValueError naming the field that is wrong.
    """

    kind: Literal["log_normal_poisson", "uniform"] = "uniform"
    low: int = 1
    high: int
    mean: float = 4.0
    spread: float = 0.5

    def __post_init__(self) -> None:
        if not 1 <= self.low <= self.high:
            raise ValueError(f"low={self.low} must lie between 1 and high={self.high}")
        if self.mean <= 0:
            raise ValueError(f"mean={self.mean} must be positive")
        if self.spread < 0:
            raise ValueError(f"spread={self.spread} must not be negative")

    def draw(self, sequences: int) -> Tensor:
        """Depths, int64 [sequences], from torch's global CPU generator."""
        if self.kind == "uniform":
            return torch.randint(self.low, self.high + 1, (sequences,))
        location = torch.log(torch.tensor(self.mean)) - self.spread**2 / 2
        rate = torch.exp(location + self.spread * torch.randn(sequences))
        return (torch.poisson(rate).long() + 1).clamp(self.low, self.high)
