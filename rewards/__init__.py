"""Rewards and verifiers: plain functions, run where nothing they are given can do harm.

>>> sample = Sample(prompt="1 + 1?", completion="<think>Easy.</think>2")
>>> score("builtin:think_format", [sample])[0].value
1.0
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from rewards.api import Cost, Reward, Sample, Traits, reward
from rewards.pool import Pool
from rewards.registry import RewardNotFound, check, resolve

__all__ = [
    "Cost",
    "Pool",
    "Reward",
    "RewardNotFound",
    "Sample",
    "Traits",
    "check",
    "resolve",
    "reward",
    "score",
]


def score(
    ref: str,
    samples: Sequence[Sample],
    *,
    args: Mapping[str, Any] | None = None,
    base: Path | None = None,
    workers: int = 1,
) -> list[Reward]:
    """Score `samples` with the reward `ref` names, one reward per sample, in their order.

    Args:
        base: folder that a ``path/file.py:fn`` reference is relative to.
        workers: number of processes, for rewards that run in one.

    Raises:
        RewardNotFound: when `ref` names nothing, does not take `args` or cannot be imported.
    """
    check(ref, base=base, args=args)
    with Pool(workers) as pool:
        pool.describe(ref, base=base)
        futures = [pool.submit(ref, sample, args=args, base=base) for sample in samples]
        return [future.result() for future in futures]
