"""The distribution of the number of iterations in training."""

from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True, kw_only=True)
class DepthDistribution:
    """How many iterations a training sequence runs, or with `segment` every so many positions:
    each depth from 1 to `high` alike (ours).

    Raises ValueError naming the field that is wrong.
    """

    high: int
    segment: int | None = None  # positions that share a depth; None: the whole sequence

    def __post_init__(self) -> None:
        if self.high < 1:
            raise ValueError(f"high={self.high} must be at least 1")
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
        return torch.randint(1, self.high + 1, shape, generator=generator)
