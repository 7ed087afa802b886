"""Groups: the samples of one prompt. Dynamic sampling (DAPO, arXiv 2503.14476, section 3.2)."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from pipeline.records import Scored

VARIANCE_FLOOR = 1e-9


@dataclass(frozen=True, kw_only=True)
class Group:
    """All samples of one prompt, in sample order. [_G]"""

    prompt_id: str
    samples: tuple[Scored, ...]


def has_variance(group: Group) -> bool:
    """Whether the group can teach anything: its scored rewards are not all the same."""
    rewards = [s.reward for s in group.samples if s.reward is not None]
    return len(rewards) > 1 and max(rewards) - min(rewards) > VARIANCE_FLOOR


def joined(groups: Sequence[Group], further: Sequence[Group]) -> list[Group]:
    """The groups with the samples that were made of them later, group by group, in sample order."""
    return [
        replace(
            group,
            samples=tuple(sorted((*group.samples, *more.samples), key=lambda s: s.rollout.sample)),
        )
        for group, more in zip(groups, further, strict=True)
    ]


def choose(groups: Mapping[str, Group], count: int) -> list[str]:
    """The names of `count` groups: those with variance first, in order; flat ones fill the rest.

    Raises ValueError when there are fewer than `count` altogether.
    """
    chosen = sorted(groups, key=lambda name: not has_variance(groups[name]))[:count]
    if len(chosen) < count:
        raise ValueError(f"{count} groups are needed, {len(chosen)} were generated")
    return chosen


def unscored_share(groups: Sequence[Group]) -> float:
    """Share of samples that no reward could score."""
    samples = [s for group in groups for s in group.samples]
    return sum(s.reward is None for s in samples) / len(samples)
