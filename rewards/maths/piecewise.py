"""Answers by cases: ``\\begin{cases} 0 & n \\text{ even} \\\\ 1 & n \\text{ odd} \\end{cases}``."""

from __future__ import annotations

import re
from collections.abc import Callable

from rewards.maths.piecewise_values import REST, same_function
from rewards.maths.spoken import words_of

_CASES = re.compile(
    r"\\begin\{(cases|dcases|array)\}(?:\{[lcr|\s]{1,6}\})?(.{1,2000}?)\\end\{\1\}", re.DOTALL
)
_BREAK = re.compile(r"\\\\(?:\[[^\]]{0,10}\])?")
_OPENING = re.compile(r"^(?:if|for|when|where|whenever)\b[\s:,]*(?:all\b\s*)?")
_REST = ("otherwise", "else", "in all other cases", "for all other")
_EMPTY_WORDS = re.compile(r"\b(?:is|are|an|a|the|number|integer)\b")
_COMMAND = re.compile(r"\\(?:text|textrm|mathrm|mbox)\s?\{([^{}]*)\}")
_SPOKEN = re.compile(r"\b(?:if|when|otherwise)\b")
_PARTING = re.compile(r"[,;]\s*(?:and\b)?|\s+and\s+(?=\S+\s+(?:if|when|otherwise)\b)")
_SPOKEN_CASE = re.compile(
    r"(?P<value>.{1,80}?)\s+(?:(?:if|when) (?P<if>.{1,80})|(?P<rest>otherwise))"
)
MAX_SPOKEN_CHARS = 300
MAX_CASES = 6
MAX_CONDITION_CHARS = 60

Case = tuple[str, str]
"""A value and the condition under which it holds."""


def has_cases(text: str) -> bool:
    """Whether values with conditions stand in the text."""
    if "&" in text:
        return "cases}" in text or ("{array}" in text and "\\{" in text)
    if not ("if" in text or "when" in text or "otherwise" in text):
        return False
    return len(text) < MAX_SPOKEN_CHARS and len(_SPOKEN.findall(text)) > 1


def same_cases(gold: str, answer: str, *, same: Callable[[str, str], bool]) -> bool | None:
    """Whether each case of one is one of the other, in any order; None where either is no such.

    Args:
        gold: the text of the one.
        answer: the text of the other.
        same: whether two values, or two conditions that are formulas, are the same.
    """
    ours, theirs = _cases(gold), _cases(answer)
    if ours is None or theirs is None:
        return _by_values(gold, ours, answer, theirs)
    return _case_by_case(ours, theirs, same) or bool(_by_values(gold, ours, answer, theirs))


def _by_values(
    gold: str, ours: list[Case] | None, answer: str, theirs: list[Case] | None
) -> bool | None:
    """Whether both are the same function, of which one may be written without cases."""
    if ours is None and theirs is None:
        return None
    return same_function(_conditions(ours, gold), _conditions(theirs, answer))


def _conditions(cases: list[Case] | None, text: str) -> list[Case]:
    if cases is None:
        return [(text, REST)]
    formulas = [(value, _words(condition)) for value, condition in cases]
    return [(value, REST if words in _REST else words) for value, words in formulas]


def _case_by_case(ours: list[Case], theirs: list[Case], same: Callable[[str, str], bool]) -> bool:
    if len(ours) != len(theirs):
        return False
    pairs = {
        (i, j)
        for i, (_, condition) in enumerate(ours)
        for j, (_, other) in enumerate(theirs)
        if _alike(condition, other, same)
    }
    mine, yours = list(range(len(ours))), list(range(len(theirs)))
    matched: list[tuple[int, int]] = []
    for i, j in sorted(pairs):
        if i in mine and j in yours:
            mine.remove(i)
            yours.remove(j)
            matched.append((i, j))
    if len(mine) == 1 and any(
        _words(one) in _REST for one in (ours[mine[0]][1], theirs[yours[0]][1])
    ):
        matched.append((mine.pop(), yours.pop()))
    return not mine and all(same(ours[i][0], theirs[j][0]) for i, j in matched)


def _spoken_cases(text: str) -> list[Case] | None:
    """``1 if n is even, 0 if n is odd``."""
    if not has_cases(text):
        return None
    plain = " ".join(_COMMAND.sub(r" \1 ", text).split())
    pieces = [piece for piece in _PARTING.split(plain) if piece.strip(" .")]
    matches = [_SPOKEN_CASE.fullmatch(piece.strip(" .,")) for piece in pieces]
    if not 2 <= len(matches) <= MAX_CASES or not all(matches):
        return None
    return [(m["value"].strip(" ,$"), (m["if"] or m["rest"]).strip(" ,$")) for m in matches if m]


def _cases(text: str) -> list[Case] | None:
    if "&" not in text:
        return _spoken_cases(text)
    block = _CASES.search(text)
    if block is None or text[block.end() :].strip(" .$}\n").removeprefix("\\right"):
        return None
    rows = [row.strip() for row in _BREAK.split(block[2]) if row.strip()]
    cases = [tuple(part.strip(" ,;.\n") for part in row.split("&")) for row in rows]
    if not 2 <= len(cases) <= MAX_CASES or any(len(case) != 2 or not all(case) for case in cases):
        return None
    if sum(_words(condition) in _REST for _, condition in cases) > 1:
        return None
    return [(value, condition) for value, condition in cases]


def _words(condition: str) -> str:
    return _OPENING.sub("", words_of(condition)).strip(" ,;.")


def _alike(one: str, two: str, same: Callable[[str, str], bool]) -> bool:
    ours, theirs = _words(one), _words(two)
    if _plain(ours) == _plain(theirs):
        return True
    if max(len(ours), len(theirs)) > MAX_CONDITION_CHARS:
        return False
    formulas = [re.search(r"[=<>]|\\(?:le|ge|ne|lt|gt|in)", text) for text in (ours, theirs)]
    return all(formulas) and same(ours, theirs)


def _plain(words: str) -> str:
    return " ".join(_EMPTY_WORDS.sub(" ", words).split())
