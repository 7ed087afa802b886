"""What the GRPO trainer sees of the rollout service."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol


@dataclass(frozen=True, kw_only=True)
class Slice:
    """One rank's completions of a step, whole groups one after another. [_B]"""

    prompt_tokens: Sequence[Sequence[int]]
    tokens: Sequence[Sequence[int]]
    logprobs: Sequence[Sequence[float]]
    rewards: Sequence[float | None]
    metrics: Mapping[str, float]  # of the whole step


class RolloutClient(Protocol):
    """Rollouts by step, at weights that the trainer pushed."""

    def push_weights(self, weights: Mapping[str, Any], *, version: int) -> None:
        """Give every engine these weights (checkpoint name -> tensor)."""
        ...

    def slice(self, step: int, *, rank: int, ranks: int) -> Slice:
        """This rank's share of a step's completions."""
        ...
