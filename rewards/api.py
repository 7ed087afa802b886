"""What a reward function receives and returns.

A reward is a plain function ``f(sample) -> Reward | float | None``; keyword parameters are filled
from the recipe's ``args``. ``None`` means "not scored": the sample is masked, never a zero.

>>> def short(sample: Sample, *, words: int = 3) -> float:
...     return float(len(sample.completion.split()) <= words)
>>> short(Sample(prompt="Why?", completion="Because it is."))
1.0
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from functools import wraps
from typing import Any, Literal, TypeVar, get_args

Isolation = Literal["inline", "process", "sandbox"]
Function = TypeVar("Function", bound=Callable[..., Any])

INFRA_ERROR = "infra_error"
NOT_SCORED = "not_scored"
SCORED = "scored"
TIMEOUT = "timeout"


@dataclass(frozen=True, kw_only=True)
class Sample:
    """One completion to be scored, with what is known about its prompt."""

    prompt: str
    """Prompt text as the model saw it, after the chat template."""
    completion: str
    """Decoded completion without the closing special tokens; ``<think>`` tags are kept."""
    gold: str | None = None
    """Reference answer, where the prompt has one."""
    golds: tuple[str, ...] = ()
    """All reference answers, where there are several; ``gold`` is the first."""
    columns: Mapping[str, Any] = field(default_factory=dict)
    """Other columns of the prompt's row."""
    id: str = ""
    """Name used in error messages and logs."""
    step: int | None = None
    """Training step, None outside training."""
    completion_tokens: int = 0
    """Length of the completion in tokens."""
    max_tokens: int | None = None
    """Generation limit in tokens."""
    finished: bool = True
    """Whether the completion ended with an end-of-sequence token rather than at the limit."""


@dataclass(frozen=True, kw_only=True)
class Cost:
    """What computing one reward took."""

    cpu_s: float = 0.0
    wall_s: float = 0.0
    peak_mb: float = 0.0
    """The most memory in MiB that the process which computed it ever held; 0 when unknown."""


@dataclass(frozen=True, kw_only=True)
class Reward:
    """One score. ``value`` is None when there is none, which masks the sample."""

    value: float | None
    verdict: str
    metrics: Mapping[str, float] = field(default_factory=dict)
    """Numbers to be logged beside the value."""
    detail: Mapping[str, Any] = field(default_factory=dict)
    """Why the verdict is what it is; JSON values only."""
    cost: Cost = Cost()


@dataclass(frozen=True, kw_only=True)
class Traits:
    """What a reward function declares about itself, as attributes of the same names."""

    version: str = "0"
    isolation: Isolation = "process"
    """``inline`` runs in the caller: only for code that no input can slow down or crash.

    ``process`` runs in a worker that can be killed. ``sandbox`` runs in one that also has no
    network, can change no file but its own temporary ones and reaches no other process; its folder
    and its packages are read-only. Where no such isolation can be had, it is refused.
    """
    cpu_s: float | None = None
    """CPU seconds allowed per sample; None takes the pool's."""
    wall_s: float | None = None
    """Wall seconds allowed per sample; None takes ``30 + 20 * cpu_s``."""
    memory_mb: int | None = None
    """Memory allowed on top of what imports took, in MiB; None takes the pool's."""
    deterministic: bool = False
    """Whether the same sample always earns the same reward, so that it may be cached."""
    timeout_value: float | None = None
    """Value of a sample whose check ran out of CPU time; None masks it."""
    verdicts: tuple[str, ...] = ()
    """All verdicts that it may give; another one is an error. Empty when it does not say.

    A bare number is ``scored``, None is ``not_scored`` and a check cut off is a ``timeout``: those,
    like ``infra_error``, are ours and need no mention.
    """


def reward(**traits: Any) -> Callable[[Function], Function]:
    """Declare a function's :class:`Traits`; optional, as plain attributes do the same.

    Raises:
        TypeError: for a trait that does not exist, or has another value than it may.
    """
    _declared(traits)

    def declare(function: Function) -> Function:
        vars(function).update(traits)
        return function

    return declare


def traits_of(function: Callable[..., Any]) -> Traits:
    """The traits that `function` declares, with the defaults of :class:`Traits` for the rest."""
    declared = getattr(function, "__dict__", {})  # functions implemented in C have none
    names = Traits.__dataclass_fields__
    return _declared({name: value for name, value in declared.items() if name in names})


def _declared(given: Mapping[str, Any]) -> Traits:
    isolation, verdicts = given.get("isolation", "process"), given.get("verdicts", ())
    if isolation not in get_args(Isolation):
        raise TypeError(f"isolation is one of {', '.join(get_args(Isolation))}, not {isolation!r}")
    if isinstance(verdicts, str) or not all(isinstance(one, str) for one in verdicts):
        raise TypeError(f"verdicts is a sequence of texts, not {verdicts!r}")
    return Traits(**{**given, "verdicts": tuple(verdicts)})


def any_gold(judge: Callable[..., Reward]) -> Callable[..., Reward]:
    """Let a function that compares with ``sample.gold`` accept any of several golds: the best of
    its rewards counts.

    >>> @any_gold
    ... def same(sample: Sample) -> Reward:
    ...     return Reward(value=float(sample.completion == sample.gold), verdict="compared")
    >>> same(Sample(prompt="", completion="b", gold="a", golds=("a", "b"))).value
    1.0
    """

    @wraps(judge)
    def judged(sample: Sample, **args: Any) -> Reward:
        if not sample.golds:
            return judge(sample, **args)
        rewards = []
        for gold in sample.golds:
            rewards.append(judge(replace(sample, gold=gold, golds=()), **args))
            if rewards[-1].value == 1.0:
                break
        return max(rewards, key=lambda one: float("-inf") if one.value is None else one.value)

    return judged


def infra_error(message: str, *, ref: str, sample: Sample, **detail: Any) -> Reward:
    """A fault that says nothing about the completion: no value, so that it is masked."""
    text = f"reward {ref}, sample {sample.id!r}: {message}"
    return Reward(value=None, verdict=INFRA_ERROR, detail={"error": text, **detail})
