"""Rewards for the shape of a text: how much it repeats itself, and length scaled by correctness."""

from __future__ import annotations

import math

from rewards.api import Reward, Sample, reward
from rewards.math_answer import VERDICTS, math_answer


@reward(version="1", isolation="inline", deterministic=True, verdicts=("repeats", "no_repeats"))
def repetition(sample: Sample, *, words: int = 20, max_penalty: float = -1.0) -> Reward:
    """A penalty for repeated runs of words, from 0 down to `max_penalty` (arXiv 2502.03373, B.2).

    The share of runs of `words` consecutive words that occurred before, times `max_penalty`.
    Verdicts: repeats, no_repeats.

    Args:
        words: length of a run.
        max_penalty: the value when every run repeats; at most 0.

    Raises:
        ValueError: for arguments out of range.

    >>> repetition(Sample(prompt="", completion="so " * 9), words=2).metrics["repeated"]
    0.875
    """
    if words < 1 or max_penalty > 0:
        raise ValueError("words must be at least 1 and max_penalty at most 0")
    spoken = sample.completion.lower().split()
    runs = [tuple(spoken[index : index + words]) for index in range(len(spoken) - words + 1)]
    share = 1 - len(set(runs)) / len(runs) if runs else 0.0
    verdict = "repeats" if share else "no_repeats"
    return Reward(value=share * max_penalty + 0.0, verdict=verdict, metrics={"repeated": share})


@reward(
    version="1",
    isolation="process",
    cpu_s=2.0,
    memory_mb=384,
    deterministic=True,
    timeout_value=0.0,
    verdicts=(*VERDICTS, "over_limit"),
)
def cosine_length(
    sample: Sample,
    *,
    max_tokens: int | None = None,
    correct_short: float = 2.0,
    correct_long: float = 1.0,
    wrong_short: float = -10.0,
    wrong_long: float = 0.0,
    over_limit: float = -10.0,
) -> Reward:
    """Correctness scaled by length along a cosine (arXiv 2502.03373, equation 1 and its defaults).

    A right answer is worth more when short, a wrong one less: it should have thought longer.
    Correctness is ``builtin:math_answer``'s, whose verdicts this has, and ``over_limit``.

    Args:
        max_tokens: length at which the cosine ends; by default the sample's generation limit.

    Raises:
        ValueError: when neither names a limit.
    """
    limit = max_tokens if max_tokens is not None else sample.max_tokens
    if limit is None or limit < 1:
        raise ValueError("no limit: give max_tokens in args, or set it in the sample")
    if sample.completion_tokens >= limit:
        return Reward(value=over_limit, verdict="over_limit")
    graded = math_answer(sample)
    if graded.value is None:
        return graded
    short, long = (wrong_short, wrong_long) if graded.value < 1 else (correct_short, correct_long)
    swing = 1 + math.cos(math.pi * sample.completion_tokens / limit)
    value = long + 0.5 * (short - long) * swing
    return Reward(value=value, verdict=graded.verdict, detail=graded.detail)
