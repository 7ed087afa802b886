"""What the depth stage's trainers are told: plain data, which loads no ML library."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True, kw_only=True)
class HeadJob:
    """One piece of work on a frozen recurrent model: files in, files out."""

    model: Path  # recurrent model folder to read
    out: Path  # folder to write
    seed: int
    threads: int
    device: str  # cpu or cuda
    max_depth: int  # R, the cap on every token's depth
    prompt_depth: int  # P, of prompt positions but the last
    segment: int  # tokens that share one decision
    batch_rows: int  # completions per replay
    dtype: str = "float32"  # of the frozen model: the engine's, so that a replay repeats it
    max_tokens: int = 200_000  # deciding tokens whose states are held; more are thinned out


@dataclass(frozen=True, kw_only=True)
class RightLabels:
    """What a "right already?" head learns from: completions at fixed depths alone, or completions
    at full depth with what every token's leaving early does to the rest."""

    rollouts: Path
    losses: Path | None = None  # of `replay.losses_by_depth`
    later: Path | None = None  # of `probes.later_losses`


@dataclass(frozen=True, kw_only=True)
class Reference:
    """The right answer of a group's members, as tokens."""

    answer: tuple[int, ...]  # the gold and the end of the turn; empty where there is none
    close: tuple[int, ...]  # what ends reasoning


@dataclass(frozen=True, kw_only=True)
class RlUpdate:
    """One policy-gradient step on the halting head.

    `entropy` is in units of price: what a nat per decision is worth, measured in core iterations at
    lambda = 1, which makes it independent of the completions' length.
    """

    step: int  # from 0
    log_prices: Mapping[str, float]  # ln(lambda) by group
    ref_tokens: float  # T_ref, mean completion tokens at full depth
    lr: float
    epochs: int
    minibatches: int  # per epoch
    clip: float  # ratios of decisions stay within 1 - clip to 1 + clip
    entropy: float
    solvability_floor: float = 0.2  # share of lambda that a prompt nobody solves still feels
    max_grad_norm: float = 1.0
    temperature: float = 1.0  # that tokens were drawn at
    references: Mapping[str, Reference] | None = None  # by group; None: outcomes are rewards
