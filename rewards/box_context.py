"""What stands right beside a box and makes another value of it: ``-\\boxed{5}``, "twice" before it.

A box inside of a longer formula is a part of it. Where an equals sign follows in the same formula,
as in ``3 + \\boxed{5} = 8``, it fills a gap and is the answer all the same.
"""

from __future__ import annotations

import re

NEAR_CHARS = 60
_MADE_OTHER = re.compile(
    r"\b(?:twice|double|triple|thrice|half(?: of)?"
    r"|(?:negative|opposite|reciprocal|inverse|negation|double|triple|square|cube|factorial"
    r"|(?:square|cube) root)(?: value)? of"
    r"|(?:answer|value|result|number|total) (?:is|was|must be) (?:\w+ )?"
    r"(?:less|more|greater|fewer|larger|smaller|higher|lower) than"
    r"|minus|negative)[\s$*({\\[]*$",
    re.IGNORECASE,
)
_LAST_WORDS = ("twice", "double", "triple", "thrice", "half", "of", "than", "minus", "negative")
_LAST_SIGNS = frozenset("tsvc^-+*/0123456789")
"""Last characters of what :data:`_OPERATOR_BEFORE` finds."""
_FIRST_SIGNS = frozenset("^\\*/-+")
_OPERATOR_BEFORE = re.compile(
    r"(?:\\(?:cdot|times|div|sqrt|frac)|\^)\s*[{(]?\s*$"
    r"|(?:\$|\\\(|\\\[|[=(])\s*[-+]\s*$"
    r"|[\d)}]\s*[-+*/]\s*$|(?<![\w.])\d{1,9}$"
)
_OPERATOR_AFTER = re.compile(r"\s*(?:\^|\\(?:cdot|times|div)\b|[*/]\s?[\d({\\]|[-+]\s?[\d({\\])")
_GAP = re.compile(r"[^$\n]{0,60}(?:=|\\(?:equiv|approx|le|ge|leq|geq)\b)")


def changed_beside(before: str, after: str) -> str | None:
    """The words or signs beside a box that make another value of what is in it, or None.

    >>> changed_beside("The answer is $-", "$."), changed_beside("Twice ", "")
    ('$-', 'Twice')
    >>> changed_beside("so $3 + ", " = 8$") is None
    True
    """
    head = before[-NEAR_CHARS:].rpartition("\n")[2]
    if head.rstrip(" $*({\\[").lower().endswith(_LAST_WORDS):
        words = _MADE_OTHER.search(head)
        if words:
            return words[0].strip()
    last, first = head.rstrip(" {(")[-1:], after.lstrip()[:1]
    if last not in _LAST_SIGNS and first not in _FIRST_SIGNS:
        return None
    if _GAP.match(after):
        return None
    sign = _OPERATOR_BEFORE.search(head) if last in _LAST_SIGNS else None
    if sign and not _fills_a_gap(head):
        return sign[0].strip()
    sign = _OPERATOR_AFTER.match(after)
    return sign[0].strip() if sign else None


def _fills_a_gap(head: str) -> bool:
    """Whether what stands before is no formula: a bullet, a dash between words."""
    return head.strip() in ("-", "+", "*")
