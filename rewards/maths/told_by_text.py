"""Answers that are told by their writing: times of day, letters of a choice, yes and no."""

from __future__ import annotations

import re

from rewards.maths.decision import Decision, decided
from rewards.maths.spoken import choices, yes_or_no

_TIME = re.compile(
    r"\D{0,12}?(\d{1,2}(?::\d\d){1,2})(?:\\text|\\mbox|\{|\})*(a|p)?\.?(?:m\b|m\.)?\D{0,9}",
    re.IGNORECASE,
)
_CHOICE = re.compile(
    r"\(?([A-J])(?:\)|\),(?=\s+[a-z]{2})|\.|:)(?:\s+(?!or\b|and\b|&|\\(?:[bp]?mod|times|cdot)\b)|$)"
)
_CHOICES = re.compile(r"\(([A-J])\)")
_REASON = re.compile(r"\b(?:because|since|as)\b")
_CHOICE_GOLD = re.compile(r"\(?([A-J])\)?")
_COMMAND_NAME = re.compile(r"\\(?:text|mathrm|mathbf|textbf|mbox)\s*\{([^{}]*)\}")


def by_words(gold: str, answer: str) -> Decision | None:
    """Yes and no, and several letters of a choice; else undecided."""
    ours = yes_or_no(gold)
    theirs = yes_or_no(answer) if ours else None
    if theirs is not None:
        return decided(ours == theirs, "yes or no")
    letters = choices(gold)
    if letters and len(letters) > 1 and choices(re.sub(r"\bor\b", ",", answer)) and "or" in answer:
        return Decision("wrong", "letters of a choice")
    others = choices(answer) if letters else None
    if others is not None and len(letters or ()) > 1:
        return decided(letters == others, "letters of a choice")
    return None


def by_text(gold: str, squeezed_answer: str, answer: str) -> Decision | None:
    """Answers that are told by their writing: times of day and letters of a choice."""
    if ":" in gold and ":" in squeezed_answer:
        one, two = _TIME.fullmatch(gold), _TIME.fullmatch(squeezed_answer)
        if one and two:
            same = _half(one) == _half(two) or not (_half(one) and _half(two))
            same = same and (one[1].lstrip("0") == two[1].lstrip("0") or _clock(one) == _clock(two))
            return decided(same, "times of day")
    letter = _CHOICE_GOLD.fullmatch(_COMMAND_NAME.sub(r"\1", gold))
    chosen = _CHOICE.match(_COMMAND_NAME.sub(r"\1", answer.strip()))
    if letter and chosen:
        told = _REASON.split(_COMMAND_NAME.sub(r"\1", answer), maxsplit=1)[0]
        named = set(_CHOICES.findall(told)) | (choices(told.replace(".", " ")) or set())
        same = letter[1] == chosen[1] and named <= {letter[1]}
        return decided(same, "letters of a choice")
    return None


def _clock(match: re.Match[str]) -> tuple[int, ...]:
    """Hours, minutes and seconds of a day; ``p.m.`` adds twelve hours, without it they are 24."""
    hour, *rest = (int(part) for part in match[1].split(":"))
    if _half(match):
        hour = hour % 12 + 12 * (_half(match) == "p")
    return hour, *rest


def _half(match: re.Match[str]) -> str:
    """``a`` or ``p`` for the half of the day that a time names, else nothing."""
    return (match[2] or "").lower()
