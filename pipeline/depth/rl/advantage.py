"""Members of groups to the advantage of each of their decisions. Pure.

A member is one completion; a group is the members of one prompt. Units: a full-depth completion of
T_ref tokens costs 1, so lambda is the accuracy that one is worth.

Whatever a member is compared with comes from other members alone: its own outcome in its baseline
would shrink the outcome's share of the gradient by (n - 1) / n in a group of n, and leave the
price, whose baseline is of the whole batch, almost as it is (leave one out: arXiv 2402.14740).
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from pipeline.depth.model.decisions import Decisions, remaining_iterations


@dataclass(frozen=True, kw_only=True)
class Member:
    """A completion with what it earned."""

    group: str  # `Rollout.group`
    outcome: float  # reward
    log_price: float  # ln(lambda), one for the group
    depths: Sequence[int]  # [_T]


def baselines_of(members: Sequence[Member]) -> list[float]:
    """The mean outcome of the others in each member's group; 0 for one alone in its group, which is
    as unbiased and only noisier."""
    groups = grouped(members)
    return [
        _mean([other.outcome for other in groups[member.group] if other is not member])
        for member in members
    ]


def grouped(members: Sequence[Member]) -> dict[str, list[Member]]:
    """The members of each prompt."""
    groups: dict[str, list[Member]] = {}
    for member in members:
        groups.setdefault(member.group, []).append(member)
    return groups


def solvability(members: Sequence[Member]) -> float:
    """Mean outcome, in [0, 1]: how far a prompt is within reach; 0 of nobody."""
    return _share(_mean([m.outcome for m in members]))


def decision_advantages(
    members: Sequence[Member],
    decisions: Sequence[Decisions],
    *,
    max_depth: int,
    ref_tokens: float,
    solvability_floor: float,
    segment: int = 1,
) -> list[Tensor]:
    """The advantage [_N] of every member's decisions, in points of reward (0 to 1).

    Outcome: the member's less its baseline, for all its decisions alike, never divided by a
    standard deviation. Cost: lambda times the prompt's weight times the iterations that the
    decision's own token still ran, less what the policy's decisions at that iteration ran on
    average in the batch's other members. The weight is the prompt's solvability by the group's
    other members, from `solvability_floor` up to 1: what could be solved may be tried deeper.
    Without a floor nothing ever shortens the attempts at hopeless prompts, and their share of a
    budget is lost (ours, measured: see the tests).

    The mean over members of the sum of advantage times score is an unbiased estimate of the
    gradient of outcome - lambda * weight * iterations / (max_depth * ref_tokens), the weight held,
    as far as tokens do not change each other's depths.
    """
    left = [
        remaining_iterations(choices, member.depths, segment=segment)
        for member, choices in zip(members, decisions, strict=True)
    ]
    typical = _typical_remainders(decisions, left, max_depth=max_depth)
    advantages = []
    for member, baseline, choices, remaining, others in zip(
        members, baselines_of(members), decisions, left, typical, strict=True
    ):
        weight = solvability_floor + (1 - solvability_floor) * _share(baseline)
        price = math.exp(member.log_price) * weight / (max_depth * ref_tokens)
        excess = remaining - others[choices.iteration]
        advantages.append((member.outcome - baseline) - price * excess)
    return advantages


def _typical_remainders(
    decisions: Sequence[Decisions],
    left: Sequence[Tensor],
    *,
    max_depth: int,
) -> list[Tensor]:
    """[max_depth + 1] for each member: mean remaining iterations of decisions by iteration, in the
    batch's other members; 0 where those made none there."""
    sums, counts = (
        torch.zeros(len(decisions), max_depth + 1, dtype=torch.double) for _ in range(2)
    )
    for row, (choices, remaining) in enumerate(zip(decisions, left, strict=True)):
        sums[row].index_add_(0, choices.iteration, remaining.double())
        counts[row].index_add_(0, choices.iteration, torch.ones_like(remaining).double())
    others = (sums.sum(0) - sums) / (counts.sum(0) - counts).clamp_min(1)
    return list(others.float())


def _share(outcome: float) -> float:
    return min(max(outcome, 0.0), 1.0)


def _mean(values: Sequence[float]) -> float:
    return sum(values) / len(values) if values else 0.0
