"""Exploration in latent space: several paths of one token's state, of which one is left. Pure.

Loads no ML library. After its first iteration a token's state goes on as `paths` paths: path 0 as
it is, the others with noise before every further iteration, so that the core takes it up before
anybody reads the state (as Huginn's in s_0, arXiv 2502.05171; at every recursion, PTRM, arXiv
2605.19943). The first iteration is common: it starts from zero, or from a draw that is the
model's. After an iteration the likelier paths go on, path 0 always among them, and after the last
one the likeliest is the token's state.
"""

import math
import shutil
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from .shape import RecurrentShape, iteration_flops, policy_flops, readout_flops

RIGHT_HEAD = "right_already/head.safetensors"
"""Place in a model's folder of the head that judges paths: a `HaltingPolicy` whose logit is that of
*not right yet*."""


@dataclass(frozen=True, kw_only=True)
class Exploration:
    """How each generated token of a request explores.

    Raises ValueError naming the field that is wrong.
    """

    paths: int  # states that a token goes on with after its first iteration
    noise: float  # standard deviation, as a share of a state's own root mean square
    keep: float = 0.5  # share of the paths that goes on after an iteration: two at least

    def __post_init__(self) -> None:
        if self.paths < 1:
            raise ValueError(f"paths={self.paths} must be at least 1")
        if not 0 <= self.noise < math.inf:
            raise ValueError(f"noise={self.noise} must be 0 or more")
        if not 0 < self.keep <= 1:
            raise ValueError(f"keep={self.keep} must lie over 0 and be at most 1, all paths")

    def alive(self, iteration: int) -> int:
        """Paths that run an iteration (from 1).

        >>> [Exploration(paths=8, noise=0.1).alive(i) for i in range(1, 7)]
        [1, 8, 4, 2, 2, 2]
        """
        if iteration == 1:
            return 1
        count = self.paths
        for _ in range(iteration - 2):
            count = min(count, max(2, math.ceil(self.keep * count - 1e-9)))
        return count

    def runs(self, depth: int) -> int:
        """Iterations that a token of `depth` runs beyond those of one path."""
        return sum(self.alive(i) - 1 for i in range(2, depth + 1))

    def looks(self, depth: int) -> int:
        """States that are judged on the way: all but path 0's where some are left behind, all at
        the end, and none where there is one path."""
        if depth < 2 or self.paths == 1:
            return 0
        left = (i for i in range(2, depth) if self.alive(i + 1) < self.alive(i))
        return sum(self.alive(i) - 1 for i in left) + self.alive(depth)

    def spare_entries(self, depth: int) -> int:
        """Keys and values of the core's iterations that a token of `depth` holds at most beyond
        those of one path: a path has its own from its second iteration on."""
        return max((self.alive(i) - 1) * (i - 1) for i in range(1, depth + 1))


def exploration_flops(
    shape: RecurrentShape,
    exploration: Exploration,
    *,
    prompt_tokens: int,
    depths: Sequence[int],
    head_width: int | None,
) -> float:
    """Forward FLOPs of a completion's further paths, beyond `shape.rollout_flops`.

    Args:
        depths: [_T] of the generated tokens.
        head_width: hidden units of the head that judges; None: the coda and the head do, by the
            entropy of the next token.
    """
    return sum(
        token_exploration_flops(
            shape, exploration, context=prompt_tokens + index, depth=depth, head_width=head_width
        )
        for index, depth in enumerate(depths)
    )


def token_exploration_flops(
    shape: RecurrentShape,
    exploration: Exploration,
    *,
    context: float,
    depth: int,
    head_width: int | None,
) -> float:
    """The same of one token that attends to `context` tokens, itself included."""
    look = (
        readout_flops(shape, context=context)
        if head_width is None
        else policy_flops(replace(shape, halting_width=head_width))
    )
    iteration = iteration_flops(shape, context=context)
    return exploration.runs(depth) * iteration + exploration.looks(depth) * look


def carry_judge(model: Path, out: Path) -> None:
    """Copy the head that judges a model's paths, if its folder has one, to another folder of the
    same weights."""
    if (model / RIGHT_HEAD).is_file():
        (out / RIGHT_HEAD).parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(model / RIGHT_HEAD, out / RIGHT_HEAD)
