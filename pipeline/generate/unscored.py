"""Samples that no reward could score: how many a step may have, and why they are so."""

from collections.abc import Iterator, Sequence

from pipeline.errors import RunFailed
from pipeline.generate.groups import Group, unscored_share
from pipeline.records import Scored

UNSCORED_LIMIT = 0.01  # share of a step that the rewards may fail to score; ours
REASONS = 3  # that a message names
LARGEST = 1e15  # of a weighted reward: a group's variance squares it in float32; ours


class TooManyUnscored(RunFailed):
    """The rewards failed on more samples than a step may lose."""


def no_reward(value: float, *, weight: float) -> str | None:
    """Why a value is none that a training can compute with; None where it is one.

    >>> no_reward(0.5, weight=2.0)
    >>> no_reward(float("nan"), weight=2.0)
    'gave nan (weight 2), which no training can compute with'
    """
    if abs(value * weight) <= LARGEST:  # not so for NaN
        return None
    return f"gave {value:g} (weight {weight:g}), which no training can compute with"


def check_scored(groups: Sequence[Group], *, step: int | None = None) -> None:
    """Raise TooManyUnscored, with the reasons, where the unscored share is over the limit."""
    share = unscored_share(groups)
    if share > UNSCORED_LIMIT:
        samples = [sample for group in groups for sample in group.samples]
        where = "" if step is None else f"step {step + 1}: "
        raise TooManyUnscored(
            f"{where}{share:.1%} of the samples could not be scored (limit {UNSCORED_LIMIT:.1%}); "
            f"the rewards failed, not the model: {'; '.join(reasons(samples)[:REASONS])}"
        )


def reasons(samples: Sequence[Scored]) -> list[str]:
    """One sentence for each reward and verdict that left samples without a value, with the first
    of them."""
    first: dict[tuple[str, str], str] = {}
    counts: dict[tuple[str, str], int] = {}
    for name, sample in _unscored(samples):
        key = (name, sample.verdicts[name])
        first.setdefault(key, fault(sample, name))
        counts[key] = counts.get(key, 0) + 1
    return [f"{text} ({counts[key]} such)" for key, text in sorted(first.items())]


def faults(samples: Sequence[Scored]) -> list[str]:
    """A line for every sample and reward without a value, for a log."""
    return [fault(sample, name) for name, sample in _unscored(samples)]


def fault(sample: Scored, name: str) -> str:
    """Why a reward gave a sample no value: its own message, which names the sample, or else its
    verdict and the sample."""
    verdict, error = sample.verdicts[name], sample.details.get(name, {}).get("error")
    where = f"sample {sample.rollout.group}/{sample.rollout.sample}"
    return f"{name}: {verdict}, {error or where}"


def _unscored(samples: Sequence[Scored]) -> Iterator[tuple[str, Scored]]:
    for sample in samples:
        for name, value in sample.components.items():
            if value is None:
                yield name, sample
