"""Who gets credit for what: advantages of halting decisions. Pure tensors and numbers.

Shapes: `_G` members of a group (completions of one prompt), `_T` completion tokens, `_N` decisions.
A token of depth d under a cap made d decisions (d - 1 to go on and one to stop), or cap - 1 when
it ran to the cap, where nothing is left to decide.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True, kw_only=True)
class Decisions:
    """The decisions of one completion, in the order in which they were made."""

    token: Tensor  # [_N] int64 index of the generated token that the position predicted
    iteration: Tensor  # [_N] int64 the iteration that had just ended, from 1
    goes_on: Tensor  # [_N] bool


def decisions_of(
    depths: Sequence[int], *, cap: int, min_depth: int = 1, segment: int = 1
) -> Decisions:
    """The decisions that a policy made for tokens of the recorded `depths` [_T].

    With segments, only each segment's first token decides. Raises ValueError for a depth outside
    `min_depth` to `cap`, which no policy chooses.
    """
    token: list[int] = []
    iteration: list[int] = []
    for index, depth in enumerate(depths):
        if not min_depth <= depth <= cap:
            raise ValueError(f"token {index} ran {depth} iterations, outside {min_depth} to {cap}")
        if index % segment == 0:
            made = range(min_depth, min(depth, cap - 1) + 1)
            token += [index] * len(made)
            iteration += made
    tokens, iterations = torch.tensor(token).long(), torch.tensor(iteration).long()
    return Decisions(
        token=tokens,
        iteration=iterations,
        goes_on=iterations < torch.tensor(depths).long()[tokens],
    )


def outcome_advantages(rewards: Tensor) -> Tensor:
    """Rewards [_G] less their mean. Not divided by their standard deviation: that would make a
    price of compute inert while a group disagrees and jumpy once it agrees."""
    return rewards - rewards.mean()


def leave_one_out_advantages(rewards: Tensor) -> Tensor:
    """Rewards [_G] less the mean of the others: an unbiased baseline (arXiv 2402.14740)."""
    return (rewards - rewards.mean()) * (len(rewards) / max(len(rewards) - 1, 1))


def remaining_iterations(
    decisions: Decisions, depths: Sequence[int], *, segment: int = 1
) -> Tensor:
    """Iterations that run from each decision on, [_N] float: 0 for a decision to stop.

    A segment's decision answers for every token of the segment.
    """
    ran = torch.tensor(depths).double()
    starts = decisions.token
    left = torch.zeros(len(starts), dtype=torch.double)
    for offset in range(segment):
        inside = starts + offset < len(ran)
        depth = ran[(starts + offset).clamp_max(len(ran) - 1)]
        left += torch.where(inside, depth - decisions.iteration, torch.zeros_like(depth))
    return left.float()


def cost_advantages(remaining: Tensor, iteration: Tensor) -> Tensor:
    """Remaining iterations [_N] less their mean among decisions at the same iteration [_N].

    Over a batch: the mean is the baseline, so that a deep token is not blamed for being asked late.
    """
    size = int(iteration.max()) + 1 if len(iteration) else 1
    total = torch.zeros(size).index_add(0, iteration, remaining)
    count = torch.zeros(size).index_add(0, iteration, torch.ones_like(remaining))
    return remaining - (total / count.clamp_min(1))[iteration]
