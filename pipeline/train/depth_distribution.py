"""Distributions of the number of iterations in training."""

from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor


@dataclass(frozen=True, kw_only=True)
class DepthDistribution:
    """How many iterations a training sequence runs, or with `segment` every so many positions.

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
    segment: int | None = None  # positions that share a depth; None: the whole sequence

    def __post_init__(self) -> None:
        if not 1 <= self.low <= self.high:
            raise ValueError(f"low={self.low} must lie between 1 and high={self.high}")
        if self.mean <= 0:
            raise ValueError(f"mean={self.mean} must be positive")
        if self.spread < 0:
            raise ValueError(f"spread={self.spread} must not be negative")
        if self.segment is not None and self.segment < 1:
            raise ValueError(f"segment={self.segment} must be at least 1, or null")

    def draw(
        self, sequences: int, *, positions: int = 1, generator: torch.Generator | None = None
    ) -> Tensor:
        """Depths, int64: [sequences], or with segments [sequences, positions].

        `generator`: default: torch's global one on the CPU.
        """
        if self.segment is None:
            return self._drawn((sequences,), generator)
        drawn = self._drawn((sequences, -(-positions // self.segment)), generator)
        return drawn.repeat_interleave(self.segment, dim=1)[:, :positions]

    def _drawn(self, shape: tuple[int, ...], generator: torch.Generator | None) -> Tensor:
        if self.kind == "uniform":
            return torch.randint(self.low, self.high + 1, shape, generator=generator)
        location = torch.log(torch.tensor(self.mean)) - self.spread**2 / 2
        rate = torch.exp(location + self.spread * torch.randn(shape, generator=generator))
        return (torch.poisson(rate, generator=generator).long() + 1).clamp(self.low, self.high)
