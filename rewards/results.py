"""What a reward function returned, as rewards: numbers that are numbers, one for each sample."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any, Protocol, runtime_checkable

from rewards.api import NOT_SCORED, SCORED, Reward, Sample, infra_error

NO_NUMBER = "where a finite number was due, or None for a sample that it cannot score"


@runtime_checkable
class ArrayLike(Protocol):
    """A NumPy array, a torch tensor or a scalar of either."""

    def tolist(self) -> Any: ...


class WrongResult(ValueError):
    """A reward function returned something that is no reward."""


def rewards_from(results: Any, *, ref: str, samples: Sequence[Sample]) -> list[Reward]:
    """One reward per sample from the results for all of them.

    Results are numbers, rewards, None or verl's mappings with a ``score``, in a sequence or an
    array. A single one that is no reward, NaN and infinities included, becomes an ``infra_error``.

    Raises:
        WrongResult: when they are no list, or not as many as the samples.
    """
    if isinstance(results, ArrayLike):
        results = results.tolist()
    if not isinstance(results, (list, tuple)):
        raise WrongResult(f"returned {type(results).__name__} where a list was due")
    if len(results) != len(samples):
        raise WrongResult(f"returned {len(results)} rewards for {len(samples)} samples")
    return [
        _reward(result, ref=ref, sample=sample)
        for result, sample in zip(results, samples, strict=True)
    ]


def _reward(result: Any, *, ref: str, sample: Sample) -> Reward:
    """`result` as a Reward; NaN, infinities and wrong types become an ``infra_error``."""
    metrics: dict[str, float] = {}
    if isinstance(result, ArrayLike):
        result = result.tolist()
    if isinstance(result, Mapping) and "score" in result:  # verl's form with extra numbers
        extra = {k: v for k, v in result.items() if k != "score"}
        metrics = {k: _float(v) for k, v in extra.items() if isinstance(v, (bool, int, float))}
        result = result["score"]
        if isinstance(result, ArrayLike):
            result = result.tolist()
    if result is None:
        return Reward(value=None, verdict=NOT_SCORED, metrics=metrics)
    if isinstance(result, (bool, int, float)):
        result = Reward(value=_float(result), verdict=SCORED, metrics=metrics)
    if not isinstance(result, Reward):
        kind = type(result).__name__
        return infra_error(f"returned {kind}, not a number", ref=ref, sample=sample)
    return _checked(result, ref=ref, sample=sample)


def _checked(reward: Reward, *, ref: str, sample: Sample) -> Reward:
    if not isinstance(reward.verdict, str):
        return infra_error("gave a verdict that is no text", ref=ref, sample=sample)
    if isinstance(reward.value, ArrayLike):
        reward = replace(reward, value=reward.value.tolist())
    numbers = {"value": reward.value, **reward.metrics}
    for name, number in numbers.items():
        if number is None and name == "value":
            continue
        if not isinstance(number, (bool, int, float)):
            kind = type(number).__name__
            return infra_error(f"gave {name} as {kind}, not a number", ref=ref, sample=sample)
        if not math.isfinite(_float(number)):
            text = f"gave {name} = {_float(number)}, {NO_NUMBER}"
            return infra_error(text, ref=ref, sample=sample)
    value = None if reward.value is None else float(reward.value)
    return replace(reward, value=value)


def _float(number: float) -> float:
    """A whole number of any size, too: infinite where it is beyond a float's range."""
    try:
        return float(number)
    except OverflowError:
        return math.inf if number > 0 else -math.inf
