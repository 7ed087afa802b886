"""The signatures a reward function may have, recognised once and called alike.

========== ======================================================= ==================
form       signature                                               source
========== ======================================================= ==================
sample     ``f(sample, **args)``                                   ours
batch      ``f(samples, **args) -> list``                          ours
trl        ``f(prompts, completions, **columns) -> list``          trl GRPOTrainer
verl       ``f(data_source, solution_str, ground_truth, extra_info)`` verl naive manager
verl_batch ``f(data_sources, solution_strs, ground_truths, extra_infos) -> list``
openrlhf   ``f(queries, prompts, labels) -> list``                 OpenRLHF remote_rm
========== ======================================================= ==================

Any of them may be ``async``; its form is then written ``async trl`` and so on.
"""

from __future__ import annotations

import inspect
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Protocol, runtime_checkable

from rewards.api import (
    INFRA_ERROR,
    NOT_SCORED,
    SCORED,
    TIMEOUT,
    Reward,
    Sample,
    Traits,
    infra_error,
    traits_of,
)

GOLD_NAMES = (
    "gold",
    "solution",
    "answer",
    "ground_truth",
    "label",
    "labels",
    "target",
    "reference",
)
"""Column names under which TRL functions ask for the reference answer."""


@runtime_checkable
class ArrayLike(Protocol):
    """A NumPy array, a torch tensor or a scalar of either."""

    def tolist(self) -> Any: ...


OUR_VERDICTS = (SCORED, NOT_SCORED, TIMEOUT, INFRA_ERROR)
"""Verdicts given by us rather than by a function."""


class WrongResult(ValueError):
    """A reward function returned something that is no reward."""


@dataclass(frozen=True, kw_only=True)
class RewardFunction:
    """A resolved reward: its function, the form it was recognised as and what it declares."""

    ref: str
    function: Callable[..., Any]
    form: str
    traits: Traits

    def __call__(self, samples: Sequence[Sample], /, **args: Any) -> list[Reward]:
        """One reward per sample. Whatever the function raises becomes an ``infra_error``."""
        try:
            results = _CALLERS[self.form.removeprefix("async ")](self.function, samples, args)
            found = _rewards(results, ref=self.ref, samples=samples)
            return [self._held(one, sample) for one, sample in zip(found, samples, strict=True)]
        except Exception as error:  # a user's function may raise anything
            message = f"raised {type(error).__name__}: {error}"
            if isinstance(error, WrongResult):
                message = str(error)
            return [infra_error(message, ref=self.ref, sample=sample) for sample in samples]

    def _held(self, reward: Reward, sample: Sample) -> Reward:
        """The reward, or an ``infra_error`` when its verdict is outside the declared set."""
        declared = self.traits.verdicts
        if not declared or reward.verdict in (*declared, *OUR_VERDICTS):
            return reward
        message = f"gave the verdict {reward.verdict!r}, and declares only {', '.join(declared)}"
        return infra_error(message, ref=self.ref, sample=sample)


def recognise(function: Callable[..., Any], *, ref: str) -> RewardFunction:
    """Wrap `function` under `ref` after reading its form off its signature.

    Raises:
        TypeError: when the signature is none of the known forms.
    """
    names = list(inspect.signature(function).parameters)
    form = _form(names)
    if form is None:
        raise TypeError(
            f"{ref}: a reward takes (sample), (samples), TRL's (prompts, completions, **kwargs), "
            f"verl's (data_source, solution_str, ground_truth, extra_info) or OpenRLHF's "
            f"(queries, prompts, labels), not ({', '.join(names)})"
        )
    if inspect.iscoroutinefunction(function):
        form = f"async {form}"
    return RewardFunction(ref=ref, function=function, form=form, traits=traits_of(function))


def _form(names: Sequence[str]) -> str | None:
    given = set(names)
    if "completions" in given:
        return "trl"
    if {"solution_str", "ground_truth"} <= given:
        return "verl"
    if {"solution_strs", "ground_truths"} <= given:
        return "verl_batch"
    if {"queries", "prompts"} <= given:
        return "openrlhf"
    if names and names[0] == "samples":
        return "batch"
    return "sample" if names else None


def _call(function: Callable[..., Any], *positional: Any, **keyword: Any) -> Any:
    result = function(*positional, **keyword)
    if not inspect.isawaitable(result):
        return result
    import asyncio  # a fifth of this package's import time, and rarely needed

    return asyncio.run(_awaited(result))


async def _awaited(result: Any) -> Any:
    return await result


def _accepted(function: Callable[..., Any], offered: Mapping[str, Any]) -> dict[str, Any]:
    """Those of the offered keyword arguments that `function` takes."""
    parameters = inspect.signature(function).parameters.values()
    if any(parameter.kind is parameter.VAR_KEYWORD for parameter in parameters):
        return dict(offered)
    return {p.name: offered[p.name] for p in parameters if p.name in offered}


def _call_sample(function: Callable[..., Any], samples: Sequence[Sample], args: Mapping) -> Any:
    return [_call(function, sample, **args) for sample in samples]


def _call_batch(function: Callable[..., Any], samples: Sequence[Sample], args: Mapping) -> Any:
    return _call(function, list(samples), **args)


def _call_trl(function: Callable[..., Any], samples: Sequence[Sample], args: Mapping) -> Any:
    """TRL gives text or, for conversational rows, lists of messages.

    Rows with a ``messages`` column are conversational. A function that cannot index text
    (TRL's own ``accuracy_reward`` reads ``completion[0]["content"]``) gets messages too.
    """
    offered = _columns(function, samples) | dict(args)
    chat = all(isinstance(sample.columns.get("messages"), list) for sample in samples)
    if not chat:
        try:
            return _call(function, **_accepted(function, _as_text(samples) | offered))
        except TypeError as error:
            if "indices must be integers" not in str(error):
                raise
    return _call(function, **_accepted(function, _as_messages(samples) | offered))


def _columns(function: Callable[..., Any], samples: Sequence[Sample]) -> dict[str, list[Any]]:
    names = {name for sample in samples for name in sample.columns}
    columns = {name: [sample.columns.get(name) for sample in samples] for name in names}
    for name in inspect.signature(function).parameters:
        if name in GOLD_NAMES and name not in columns:
            columns[name] = [sample.gold for sample in samples]
    return columns


def _as_text(samples: Sequence[Sample]) -> dict[str, list[Any]]:
    return {
        "prompts": [sample.prompt for sample in samples],
        "completions": [sample.completion for sample in samples],
    }


def _as_messages(samples: Sequence[Sample]) -> dict[str, list[Any]]:
    def asked(sample: Sample) -> list[dict[str, str]]:
        return sample.columns.get("messages") or [{"role": "user", "content": sample.prompt}]

    return {
        "prompts": [asked(sample) for sample in samples],
        "completions": [
            [{"role": "assistant", "content": sample.completion}] for sample in samples
        ],
    }


def _verl_arguments(sample: Sample) -> dict[str, Any]:
    return {
        "data_source": sample.columns.get("data_source", ""),
        "solution_str": sample.completion,
        "ground_truth": sample.gold,
        "extra_info": dict(sample.columns),
    }


def _call_verl(function: Callable[..., Any], samples: Sequence[Sample], args: Mapping) -> Any:
    return [
        _call(function, **_accepted(function, _verl_arguments(sample) | dict(args)))
        for sample in samples
    ]


def _call_verl_batch(function: Callable[..., Any], samples: Sequence[Sample], args: Mapping) -> Any:
    rows = [_verl_arguments(sample) for sample in samples]
    offered = {f"{name}s": [row[name] for row in rows] for name in _verl_arguments(samples[0])}
    return _call(function, **_accepted(function, offered | dict(args)))


def _call_openrlhf(function: Callable[..., Any], samples: Sequence[Sample], args: Mapping) -> Any:
    offered = {
        "queries": [sample.prompt + sample.completion for sample in samples],
        "prompts": [sample.prompt for sample in samples],
        "labels": [sample.gold for sample in samples],
    }
    result = _call(function, **_accepted(function, offered | dict(args)))
    if isinstance(result, Mapping):  # {"rewards": ..., "scores": ..., "extra_logs": {...}}
        return result["rewards"]
    return result


_CALLERS: dict[str, Callable[[Callable[..., Any], Sequence[Sample], Mapping], Any]] = {
    "sample": _call_sample,
    "batch": _call_batch,
    "trl": _call_trl,
    "verl": _call_verl,
    "verl_batch": _call_verl_batch,
    "openrlhf": _call_openrlhf,
}


def _rewards(results: Any, *, ref: str, samples: Sequence[Sample]) -> list[Reward]:
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
        metrics = {k: float(v) for k, v in extra.items() if isinstance(v, (bool, int, float))}
        result = result["score"]
    if result is None:
        return Reward(value=None, verdict=NOT_SCORED, metrics=metrics)
    if isinstance(result, (bool, int, float)):
        result = Reward(value=float(result), verdict=SCORED, metrics=metrics)
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
        if not math.isfinite(number):
            return infra_error(f"gave {name} = {number}", ref=ref, sample=sample)
    value = None if reward.value is None else float(reward.value)
    return replace(reward, value=value)
