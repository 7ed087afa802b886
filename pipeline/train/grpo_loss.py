"""GRPO's losses and advantages. Pure.

Sources: grpo DeepSeekMath (arXiv 2402.03300, equation 3) with R1's clip; dapo (2503.14476,
equation 8); dr_grpo (2503.20783, section 3.2); gspo (2507.18071, equation 5); cispo (2506.13585,
equation 4).

A token's loss is -min(r A, clip(r) A) c, with r = new / old the ratio of the policy in training to
that of the trainer's weights as the step begins, and c = min(old / engine, 2) that of the latter to
what sampled it: arithmetic alone apart where the engine held the same weights, one update of a step
where it was ahead (AIPO, arXiv 2505.24034, equation 3; decoupled PPO, arXiv 2110.00641, section 3).
No gradient flows through c.

Shapes: N completion tokens of the rows of one forward pass, R rows, B completions of a step.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from pipeline.recipe.grpo_stage import Variant

TRUNCATION_CAP = 2.0
"""Cap of a token's importance ratio of trainer to engine (truncated importance sampling); ours."""

DEFAULT_CLIP: dict[Variant, tuple[float, float]] = {
    "grpo": (10.0, 10.0),  # R1, RL-1
    "dapo": (0.2, 0.28),  # arXiv 2503.14476, section 3.1
    "dr_grpo": (0.2, 0.2),  # arXiv 2503.20783
    "gspo": (3e-4, 4e-4),  # arXiv 2507.18071, section 5.1
    "cispo": (10.0, 5.0),  # arXiv 2506.13585: no lower clip; upper as in arXiv 2510.13786
}
SCALE = {"grpo": "group", "dapo": "group", "gspo": "group", "dr_grpo": "none", "cispo": "batch"}
"""Whose standard deviation an advantage is divided by."""

VARIANCE_FLOOR = 1e-9  # rewards this near are equal
SPREAD_FLOOR = 1e-4  # added to a standard deviation, as TRL does


@dataclass(frozen=True, kw_only=True)
class Objective:
    """What a stage minimises."""

    variant: Variant
    low: float  # how far below 1 a ratio counts
    high: float  # how far above
    kl: float
    max_tokens: int  # dr_grpo's constant length

    @classmethod
    def of(cls, *, variant: Variant, clip: float | None, kl: float, max_tokens: int) -> "Objective":
        """With the variant's own clip where none is given."""
        low, high = DEFAULT_CLIP[variant] if clip is None else (clip, clip)
        return cls(variant=variant, low=low, high=high, kl=kl, max_tokens=max_tokens)


@dataclass(frozen=True, kw_only=True)
class Tokens:
    """The completion tokens of one forward pass, row after row. All [N] but `lengths`."""

    logprobs: Tensor  # of the policy in training
    old: Tensor  # of the policy that the step began with
    engine: Tensor  # as the tokens were sampled
    advantages: Tensor  # their rows'
    rows: Tensor  # int64, from 0
    lengths: Tensor  # [R] tokens of each row
    reference: Tensor | None = None  # where there is a KL term


@dataclass(frozen=True)
class Totals:
    """What an optimizer step's sums are divided by, over all ranks."""

    rows: int
    tokens: int


@dataclass(frozen=True)
class Loss:
    """A forward pass's share of an optimizer step's loss, and sums for the metrics."""

    loss: Tensor  # scalar
    kl: Tensor  # scalar, sum over tokens
    clipped: Tensor  # scalar, number of tokens


def loss(tokens: Tokens, objective: Objective, totals: Totals) -> Loss:
    """The loss of one forward pass; those of a step's passes add up to the step's."""
    log_ratio = tokens.logprobs - tokens.old
    if objective.variant == "gspo":
        log_ratio = (_row_sums(log_ratio, tokens) / tokens.lengths)[tokens.rows]
    ratio, advantages = log_ratio.exp(), tokens.advantages
    if objective.variant == "cispo":
        capped = ratio.detach().clamp(max=objective.high)
        each = -capped * advantages * tokens.logprobs
        clipped = (ratio > objective.high) & (advantages > 0)
    else:
        bounded = ratio.clamp(1 - objective.low, 1 + objective.high)
        each = -torch.min(ratio * advantages, bounded * advantages)
        below = (ratio < 1 - objective.low) & (advantages < 0)
        clipped = below | ((ratio > 1 + objective.high) & (advantages > 0))
    each = each * (tokens.old - tokens.engine).exp().clamp(max=TRUNCATION_CAP)
    kl = torch.zeros_like(each)
    if tokens.reference is not None:
        apart = tokens.reference - tokens.logprobs
        kl = apart.exp() - apart - 1
        each = each + objective.kl * kl
    return Loss(
        (each * _weights(tokens, objective, totals)).sum(), kl.detach().sum(), clipped.sum()
    )


def _weights(tokens: Tokens, objective: Objective, totals: Totals) -> Tensor | float:
    """[N] what a token counts: in its row's mean, in a fixed length, or in the mean of all."""
    match objective.variant:
        case "grpo" | "gspo":
            return 1.0 / (tokens.lengths[tokens.rows] * totals.rows)
        case "dr_grpo":
            return 1.0 / (totals.rows * objective.max_tokens)
        case _:
            return 1.0 / totals.tokens


def _row_sums(values: Tensor, tokens: Tokens) -> Tensor:
    zeros = torch.zeros(len(tokens.lengths), dtype=values.dtype, device=values.device)
    return zeros.index_add(0, tokens.rows, values)


def advantages(rewards: Tensor, *, group: int, variant: Variant) -> Tensor:
    """[B] of rewards [B], whole groups of `group` one after another; NaN is an unscored one.

    An unscored completion has no advantage, and is not part of its group's mean and deviation.
    """
    grouped = rewards.view(-1, group)
    centred = grouped - grouped.nanmean(dim=1, keepdim=True)
    match SCALE[variant]:
        case "group":
            centred = centred / (_deviation(grouped, dim=1) + SPREAD_FLOOR)
        case "batch":
            centred = centred / (_deviation(rewards.view(1, -1), dim=1) + SPREAD_FLOOR)
    return centred.nan_to_num(0.0).flatten()


def _deviation(values: Tensor, *, dim: int) -> Tensor:
    """Of what is no NaN, with Bessel's correction; NaN of fewer than two."""
    count = (~values.isnan()).sum(dim, keepdim=True)
    squares = (values - values.nanmean(dim, keepdim=True)) ** 2
    return (squares.nansum(dim, keepdim=True) / (count - 1)).sqrt()


def flat_share(rewards: Tensor, *, group: int) -> float:
    """Share of the groups whose scored rewards are all equal, or fewer than two."""
    grouped = rewards.view(-1, group)
    high = grouped.nan_to_num(nan=-torch.inf).amax(dim=1)
    low = grouped.nan_to_num(nan=torch.inf).amin(dim=1)
    return (high - low <= VARIANCE_FLOOR).float().mean().item()
