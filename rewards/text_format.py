"""Rewards read off the text alone: format, exact match and length."""

from __future__ import annotations

from rewards.api import Reward, Sample, any_gold, reward

OPEN, CLOSE = "<think>", "</think>"


def reasoning_and_answer(sample: Sample) -> tuple[str, str]:
    """The completion split after its last ``</think>``; no reasoning when there is none."""
    reasoning, closed, answer = sample.completion.rpartition(CLOSE)
    return (reasoning.removeprefix(OPEN), answer) if closed else ("", sample.completion)


@reward(
    version="1",
    isolation="inline",
    deterministic=True,
    verdicts=(
        "well_formed",
        "unfinished",
        "no_reasoning_tags",
        "repeated_tags",
        "text_before",
        "empty_answer",
    ),
)
def think_format(sample: Sample) -> Reward:
    """1.0 for ``<think>reasoning</think>answer``, else 0.0.

    Exactly one pair of tags, in this order, nothing but space before it, an answer after it, and
    the completion must have finished. When the prompt ends with ``<think>``, as some chat
    templates do, the completion goes on from there and must not open it again.

    Verdicts: well_formed, unfinished, no_reasoning_tags, repeated_tags, text_before, empty_answer.

    >>> think_format(Sample(prompt="1+1?", completion="<think>easy</think> 2")).verdict
    'well_formed'
    >>> think_format(Sample(prompt="1+1? <think>", completion="easy</think> 2")).verdict
    'well_formed'
    """
    opened = sample.prompt.rstrip().endswith(OPEN)
    verdict = _format_verdict(sample.completion, opened=opened)
    if verdict == "well_formed" and not sample.finished:
        verdict = "unfinished"
    return Reward(value=float(verdict == "well_formed"), verdict=verdict)


def _format_verdict(completion: str, *, opened: bool) -> str:
    expected_opens = 0 if opened else 1
    opens, closes = completion.count(OPEN), completion.count(CLOSE)
    if opens > expected_opens or closes > 1:
        return "repeated_tags"
    if opens < expected_opens or closes < 1:
        return "no_reasoning_tags"
    before, _, answer = completion.partition(CLOSE)
    if not opened:
        lead, tag, _ = before.partition(OPEN)
        if not tag:
            return "no_reasoning_tags"
        if lead.strip():
            return "text_before"
    return "well_formed" if answer.strip() else "empty_answer"


@reward(
    version="1",
    isolation="inline",
    deterministic=True,
    verdicts=("correct", "wrong", "no_answer", "no_gold"),
)
@any_gold
def exact_match(sample: Sample, *, ignore_case: bool = False) -> Reward:
    """1.0 when the answer after the reasoning is the gold, runs of white space counting as one.

    Verdicts: correct, wrong, no_answer, no_gold (not scored).

    >>> exact_match(Sample(prompt="", completion="<think>b?</think> B ", gold="B")).value
    1.0
    """
    if sample.gold is None:
        return Reward(value=None, verdict="no_gold")
    answer, gold = (
        " ".join(text.split()) for text in (reasoning_and_answer(sample)[1], sample.gold)
    )
    if not answer:
        return Reward(value=0.0, verdict="no_answer")
    if ignore_case:
        answer, gold = answer.casefold(), gold.casefold()
    return Reward(value=float(answer == gold), verdict="correct" if answer == gold else "wrong")


@reward(
    version="1",
    isolation="inline",
    deterministic=True,
    verdicts=("within", "in_buffer", "over_limit"),
)
def length(sample: Sample, *, buffer_tokens: int, max_tokens: int | None = None) -> Reward:
    """DAPO's soft overlong punishment, from 0 down to -1 (arXiv 2503.14476, equation 13).

    0 up to ``max_tokens - buffer_tokens`` tokens, then falling linearly to -1 at ``max_tokens``.
    Verdicts: within, in_buffer, over_limit.

    Args:
        buffer_tokens: length of the slope in tokens.
        max_tokens: where the slope ends; by default the sample's generation limit.

    Raises:
        ValueError: when neither names a limit, or the buffer does not fit into it.

    >>> long = Sample(prompt="", completion="...", completion_tokens=90, max_tokens=100)
    >>> length(long, buffer_tokens=20).value
    -0.5
    """
    limit = max_tokens if max_tokens is not None else sample.max_tokens
    if limit is None:
        raise ValueError("no limit: give max_tokens in args, or set it in the sample")
    if not 0 < buffer_tokens <= limit:
        raise ValueError(f"buffer_tokens must be from 1 to {limit}, not {buffer_tokens}")
    over = sample.completion_tokens - (limit - buffer_tokens)
    value = -min(1.0, max(0.0, over / buffer_tokens))
    verdict = "within" if value == 0 else "over_limit" if value == -1 else "in_buffer"
    return Reward(value=value + 0.0, verdict=verdict)
