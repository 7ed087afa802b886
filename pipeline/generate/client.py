"""What the GRPO trainer sees of the rollout service."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from pipeline.generate.journal import StepRollouts


@dataclass(frozen=True, kw_only=True)
class Slice:
    """One rank's completions of a step, whole groups one after another. [_B]"""

    prompt_tokens: Sequence[Sequence[int]]
    tokens: Sequence[Sequence[int]]
    logprobs: Sequence[Sequence[float]]
    rewards: Sequence[float | None]
    metrics: Mapping[str, float]  # of the whole step
    depths: Sequence[Sequence[int]] | None = None
    """[_B][_P + _T - 1] of every position that ran; None for a dense model."""
    versions: Sequence[int] | None = None
    """[_B] the weights that all of a completion's tokens were sampled with, by the step that begins
    with them; None: this step."""


class Weights(Protocol):
    """A model's weights for engines, in buckets of a bounded size (checkpoint name -> tensor), each
    made when it is asked for and valid until the next. Tied ones are in one bucket."""

    def __len__(self) -> int:
        """How many buckets there are."""
        ...

    def __iter__(self) -> Iterator[Mapping[str, Any]]: ...

    def metadata(self) -> Mapping[str, Any]:
        """All names in their order, each with a tensor on the device "meta"."""
        ...


class RolloutClient(Protocol):
    """Rollouts by step, at weights that the trainer pushed."""

    def push_weights(self, weights: Weights, *, version: int, rank: int) -> None:
        """Give every engine these weights; every rank calls it. Raises what an engine raised; then
        none has them."""
        ...

    def begin(self, step: int) -> None:
        """Have a step's completions made, with the weights of now; returns at once."""
        ...

    def slice(self, step: int, *, rank: int, ranks: int) -> Slice:
        """This rank's share of a step's completions, once they are there."""
        ...


def slice_of(rollouts: StepRollouts, *, rank: int, ranks: int) -> Slice:
    """The rank's part of a step's samples, in group order."""
    samples = [s for group in rollouts.groups for s in group.samples]
    share = len(samples) // ranks
    mine = samples[rank * share : (rank + 1) * share]
    depths = [d for s in mine if (d := s.rollout.position_depths) is not None]
    return Slice(
        prompt_tokens=[s.rollout.prompt_tokens for s in mine],
        tokens=[s.rollout.tokens for s in mine],
        logprobs=[s.rollout.logprobs for s in mine],
        rewards=[s.reward for s in mine],
        metrics=rollouts.metrics,
        depths=depths or None,
        versions=[s.rollout.weight_version for s in mine],
    )
