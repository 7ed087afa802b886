"""Which completions a rejection sampling keeps, and why the others went. Pure."""

import hashlib
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise

from pipeline.generate.groups import Group
from pipeline.measure.drops import Drop
from pipeline.recipe.reject_stage import RejectStage
from pipeline.records import Scored

LANGUAGE = "readable.language"  # component that holds the share of target-language words

MIN_LANGUAGE_SHARE = 0.9
"""Least share of target-language words; R1 filters mixed languages and states no number. Ours."""

MAX_PARAGRAPH_CHARS = 2000
"""Characters of the longest paragraph; R1 filters long ones and states no number. Ours."""


_WHY: Mapping[str, tuple[str, str]] = {
    "finished": ("cut off", "max_tokens"),
    "correct": ("wrong or unscored", "threshold"),
    "readable": ("another language, long paragraphs or code blocks in the reasoning", "language"),
    "new": ("the same text as another of the prompt", ""),
    "kept": ("beyond the rows of a prompt", "keep_per_prompt"),
}
"""By filter, why a completion fails it, and the key of the stage that decides it."""


@dataclass(frozen=True, kw_only=True)
class Harvest:
    """Kept samples with their funnel: how many were left after each filter, in order."""

    kept: tuple[Scored, ...]
    funnel: Mapping[str, int]


def harvest(groups: Sequence[Group], spec: RejectStage) -> Harvest:
    """Correct, readable, new, at most `keep_per_prompt` a prompt (R1, section 2.3.3).

    Samples of one prompt are taken in sample order, so the choice is not biased to any length.
    """
    funnel: Counter[str] = Counter(
        dict.fromkeys(("generated", "finished", "correct", "readable", "new", "kept"), 0)
    )
    kept: list[Scored] = []
    seen: set[str] = set()
    for group in groups:
        taken = 0
        for sample in group.samples:
            full = taken >= spec.keep_per_prompt
            reached = _reached(sample, spec, seen, full=full)
            funnel.update(reached)
            if "new" in reached:
                seen.add(_content(sample))
            if "kept" in reached:
                kept.append(sample)
                taken += 1
    return Harvest(kept=tuple(kept), funnel=dict(funnel))


def funnel_drops(funnel: Mapping[str, int], *, name: str) -> list[Drop]:
    """What each filter of the reject stage `name` took away, of all that was generated."""
    steps = list(funnel.items())
    return [
        Drop(
            what="completions",
            reason=_WHY[filter_][0],
            dropped=before - count,
            total=steps[0][1],
            key=f"stages.{name}.{_WHY[filter_][1]}" if _WHY[filter_][1] else "",
        )
        for (_, before), (filter_, count) in pairwise(steps)
    ]


def empty_warning(funnel: Mapping[str, int], *, name: str, readers: Sequence[str]) -> str | None:
    """The sentence about a harvest that kept nothing, which the stages that read it will miss."""
    if funnel["kept"]:
        return None
    generated, finished, correct = (funnel[key] for key in ("generated", "finished", "correct"))
    read = f": {', '.join(readers)} will have nothing of it" if readers else ""
    return (
        f"warning: {name} kept none of {generated:,} completions ({generated - finished:,} cut "
        f"off, {finished - correct:,} wrong){read}; raise samples_per_prompt or max_tokens, lower "
        f"the temperature, take easier prompts or a longer cold start, and go on with --from {name}"
    )


def unreadable(sample: Scored) -> str | None:
    """Why a completion is not readable by R1's rules (section 2.3.3), or None when it is: mixed
    languages, long paragraphs, or code blocks in the reasoning."""
    longest = max(len(part) for part in re.split(r"\n\s*\n", sample.text))
    if longest > MAX_PARAGRAPH_CHARS:
        return "long paragraph"
    if "```" in sample.text.partition("</think>")[0]:
        return "code block"
    share = sample.components.get(LANGUAGE)
    if share is not None and share < MIN_LANGUAGE_SHARE:
        return "mixed language"
    return None


def is_correct(sample: Scored, names: Sequence[str], threshold: float) -> bool:
    """Whether each named reward reached the threshold."""
    values = [sample.components[name] for name in names]
    return all(value is not None and value >= threshold for value in values)


def preference_pairs(
    groups: Sequence[Group], names: Sequence[str], threshold: float
) -> list[tuple[Scored, Scored]]:
    """One (correct, wrong) pair of every prompt that has both.

    Each pair is chosen to bring the sum of length differences (tokens, chosen minus rejected)
    closest to zero, so that length does not tell the two apart (R1: comparable lengths).
    """
    pairs: list[tuple[Scored, Scored]] = []
    balance = 0
    for group in groups:
        right = [s for s in group.samples if is_correct(s, names, threshold)]
        wrong = [s for s in group.samples if s not in right and s.reward is not None]
        candidates = [(r, w) for r in right for w in wrong]
        if not candidates:
            continue
        pair = min(candidates, key=lambda rw: abs(balance + _length_gap(*rw)))
        balance += _length_gap(*pair)
        pairs.append(pair)
    return pairs


def prompt_hash(question: str) -> str:
    """SHA-256 (hex) of the question, for a row's lineage."""
    return hashlib.sha256(question.encode()).hexdigest()


def _reached(sample: Scored, spec: RejectStage, seen: set[str], *, full: bool) -> list[str]:
    """The filters that a sample passed, up to the first it failed."""
    reached = ["generated"]
    if sample.rollout.stop != "eos":
        return reached
    reached.append("finished")
    if not is_correct(sample, spec.rewards, spec.threshold):
        return reached
    reached.append("correct")
    if unreadable(sample):
        return reached
    reached.append("readable")
    if _content(sample) in seen:
        return reached
    reached.append("new")
    return reached if full else [*reached, "kept"]


def _content(sample: Scored) -> str:
    return f"{sample.rollout.prompt_id}\x1f{' '.join(sample.text.split())}"


def _length_gap(chosen: Scored, rejected: Scored) -> int:
    return len(chosen.rollout.tokens) - len(rejected.rollout.tokens)
