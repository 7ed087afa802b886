"""The halting decisions behind recorded depths, and what each of them led to. Pure.

Shapes: `_T` completion tokens, `_N` decisions. A token of depth d under a cap made d decisions
(d - 1 to go on and one to stop), or cap - 1 when it ran to the cap, where nothing is left to
decide.
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


def decisions_of(depths: Sequence[int], *, cap: int, segment: int = 1) -> Decisions:
    """The decisions that a policy made for tokens of the recorded `depths` [_T].

    With segments, only each segment's first token decides. Raises ValueError for a depth outside
    1 to `cap`, which no policy chooses.
    """
    token: list[int] = []
    iteration: list[int] = []
    for index, depth in enumerate(depths):
        if not 1 <= depth <= cap:
            raise ValueError(f"token {index} ran {depth} iterations, outside 1 to {cap}")
        if index % segment == 0:
            decided_after = range(1, min(depth, cap - 1) + 1)
            token += [index] * len(decided_after)
            iteration += decided_after
    tokens, iterations = torch.tensor(token).long(), torch.tensor(iteration).long()
    return Decisions(
        token=tokens,
        iteration=iterations,
        goes_on=iterations < torch.tensor(depths).long()[tokens],
    )


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
