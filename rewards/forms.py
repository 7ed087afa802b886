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

Any of them may be ``async``; its form is then written ``async trl`` and so on. All that decides
about a call is read off the function before the first one; what a call raises is the function's
own error and never leads to another call.
"""

from __future__ import annotations

import inspect
import traceback
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

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
from rewards.form_arguments import arguments_of, reads_messages
from rewards.results import WrongResult, rewards_from

ONE_CALL_A_SAMPLE = ("sample", "verl")
"""Forms that are called once for each sample; the others get all of them in one call."""

OUR_VERDICTS = (SCORED, NOT_SCORED, TIMEOUT, INFRA_ERROR)
"""Verdicts given by us rather than by a function."""

_GIVEN_TEXT = (
    "; it was given completions as text: to be given messages, annotate "
    "completions: list[list[dict[str, str]]]"
)


@dataclass(frozen=True, kw_only=True)
class RewardFunction:
    """A resolved reward: its function, the form it was recognised as and what it declares."""

    ref: str
    function: Callable[..., Any]
    form: str
    traits: Traits

    @cached_property
    def signature(self) -> inspect.Signature:
        """What the function takes."""
        return inspect.signature(self.function)

    @cached_property
    def messages(self) -> bool:
        """Whether a TRL function is given lists of messages rather than text."""
        return self.form.endswith("trl") and reads_messages(self.function, self.signature)

    def __call__(self, samples: Sequence[Sample], /, **args: Any) -> list[Reward]:
        """One reward per sample.

        Whatever the function raises becomes an ``infra_error``. So do arguments that its signature
        does not take; it is then not called at all.
        """
        if not samples:
            return []
        form = self.form.removeprefix("async ")
        arguments = arguments_of(form, self.signature, samples, args, messages=self.messages)
        try:
            calls = [self.signature.bind(*one.positional, **one.keyword) for one in arguments]
        except TypeError as error:
            return self._faults(samples, f"cannot be called: {error}")
        try:
            results = [_finished(self.function(*call.args, **call.kwargs)) for call in calls]
        except Exception as error:  # a user's function may raise anything
            hint = _GIVEN_TEXT if form == "trl" and not self.messages else ""
            place = _place(error, self.function)
            return self._faults(samples, f"raised {type(error).__name__}: {error}{place}{hint}")
        try:
            whole = results if form in ONE_CALL_A_SAMPLE else results[0]
            if form == "openrlhf" and isinstance(whole, Mapping) and "rewards" in whole:
                whole = whole["rewards"]  # beside "scores" and "extra_logs"
            rewards = rewards_from(whole, ref=self.ref, samples=samples)
        except WrongResult as error:
            return self._faults(samples, str(error))
        except Exception as error:  # a user's object may raise anything when it is read
            return self._faults(samples, f"its result raised {type(error).__name__}: {error}")
        return [self._held(one, sample) for one, sample in zip(rewards, samples, strict=True)]

    def _faults(self, samples: Sequence[Sample], message: str) -> list[Reward]:
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
    signature = inspect.signature(function)
    names = list(signature.parameters)
    form = _form(signature)
    if form is None:
        raise TypeError(
            f"{ref}: a reward takes (sample), (samples), TRL's (prompts, completions, **kwargs), "
            f"verl's (data_source, solution_str, ground_truth, extra_info) or OpenRLHF's "
            f"(queries, prompts, labels), not ({', '.join(names)})"
        )
    return RewardFunction(
        ref=ref,
        function=function,
        form=f"async {form}" if inspect.iscoroutinefunction(function) else form,
        traits=traits_of(function),
    )


def _form(signature: inspect.Signature) -> str | None:
    names = set(signature.parameters)
    if "completions" in names:
        return "trl"
    if {"solution_str", "ground_truth"} <= names:
        return "verl"
    if {"solution_strs", "ground_truths"} <= names:
        return "verl_batch"
    if {"queries", "prompts"} <= names:
        return "openrlhf"
    first = next(iter(signature.parameters.values()), None)
    if first is None or first.kind in (first.KEYWORD_ONLY, first.VAR_KEYWORD):
        return None
    return "batch" if first.name == "samples" else "sample"


def _place(error: Exception, function: Callable[..., Any]) -> str:
    """The line that raised, of the code beside the function's: " (reward.py, line 3)", or nothing
    where none of it did."""
    code = getattr(inspect.unwrap(function), "__code__", None)  # C functions have none
    folder = None if code is None else Path(code.co_filename).parent
    frames = traceback.extract_tb(error.__traceback__)
    own = [frame for frame in frames if Path(frame.filename).parent == folder]
    return f" ({Path(own[-1].filename).name}, line {own[-1].lineno})" if own else ""


def _finished(result: Any) -> Any:
    """What a function returned, awaited where it is ``async``."""
    if not inspect.isawaitable(result):
        return result
    import asyncio  # a fifth of this package's import time, and rarely needed

    async def awaited() -> Any:
        return await result

    return asyncio.run(awaited())
