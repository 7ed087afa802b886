"""Members of groups to the advantage of each of their decisions. Pure.

A member is one completion; a group is the members of one prompt. Units: a full-depth completion of
T_ref tokens costs 1, so lambda is the accuracy that one is worth.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from pipeline.depth.rl.credit import Decisions, cost_advantages, remaining_iterations


@dataclass(frozen=True, kw_only=True)
class Member:
    """A completion with what it earned."""

    group: str  # prompt id
    outcome: float  # reward, less the price of its tokens
    log_price: float  # ln(lambda), one for the group
    depths: Sequence[int]  # [_T]
    forced: bool  # its depths were imposed, not drawn from the policy


@dataclass(frozen=True, kw_only=True)
class GroupScore:
    """What advantages compare a group's members with."""

    baseline: float
    solvability: float  # mean outcome in [0, 1]


def group_scores(members: Sequence[Member]) -> dict[str, GroupScore]:
    """By group: the mean outcome, of members that the policy decided where there are any.

    A forced member would shift the baseline of the others by what the policy would never do.
    """
    grouped: dict[str, list[Member]] = {}
    for member in members:
        grouped.setdefault(member.group, []).append(member)
    scores = {}
    for name, group in grouped.items():
        own = [m.outcome for m in group if not m.forced] or [m.outcome for m in group]
        everyone = sum(m.outcome for m in group) / len(group)
        scores[name] = GroupScore(
            baseline=sum(own) / len(own), solvability=min(max(everyone, 0.0), 1.0)
        )
    return scores


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

    Outcome: the member's less its group's mean, for all its decisions alike, never divided by a
    standard deviation. Cost: lambda times the prompt's weight times the iterations that the
    decision's own token still ran, less what the policy's decisions at that iteration ran on
    average over the batch. The weight is the prompt's solvability, from `solvability_floor` up to
    1: what could be solved may be tried deeper. Without a floor nothing ever shortens the attempts
    at hopeless prompts, and their share of a budget is lost (ours, measured: see the tests).
    """
    scores = group_scores(members)
    left = [
        remaining_iterations(made, member.depths, segment=segment)
        for member, made in zip(members, decisions, strict=True)
    ]
    baseline = _remaining_baseline(members, decisions, left, max_depth=max_depth)
    found = []
    for member, made, remaining in zip(members, decisions, left, strict=True):
        score = scores[member.group]
        weight = solvability_floor + (1 - solvability_floor) * score.solvability
        price = math.exp(member.log_price) * weight / (max_depth * ref_tokens)
        excess = remaining - baseline[made.iteration]
        found.append((member.outcome - score.baseline) - price * excess)
    return found


def _remaining_baseline(
    members: Sequence[Member],
    decisions: Sequence[Decisions],
    left: Sequence[Tensor],
    *,
    max_depth: int,
) -> Tensor:
    """[R + 1] mean remaining iterations of the policy's decisions, by iteration."""
    own = [i for i, member in enumerate(members) if not member.forced]
    if not own:
        return torch.zeros(max_depth + 1)
    iteration = torch.cat([decisions[i].iteration for i in own])
    remaining = torch.cat([left[i] for i in own])
    means = torch.zeros(max_depth + 1)
    means[iteration] = remaining - cost_advantages(remaining, iteration)
    return means
