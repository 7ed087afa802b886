"""Constants of integration and the like, which may have any name: ``Ce^{2x}`` is ``Ae^{2x}``."""

from __future__ import annotations

import re
from itertools import permutations

from rewards.maths import values
from rewards.maths.tree import Node, TooComplex, Undefined, Unparsable, renamed, symbols

MAX_CONSTANTS = 3
_CONSTANT = re.compile(r"[CKck](?:_\d)?|[AB]|[CKck]_[A-Za-z]")
_OF_ANY_ANSWER = re.compile(r"[CK](?:_\d)?|c_\d")
"""Letters that are such constants where no label says which letters are variables."""


def with_constants_renamed(
    gold: Node, answer: Node, *, variables: frozenset[str] | None
) -> Node | None:
    """`answer` with its constants called as the gold's, where that makes it equal; else None.

    Args:
        gold: the value that is right.
        answer: the value that may be the same.
        variables: letters that a label names, ``x`` of ``y(x) =``; None where there is no label.
            Without one only C, K and ``c_1`` are taken for constants: A may be an angle.
    """
    ours, theirs = symbols(gold), symbols(answer)
    if ours == theirs and len(ours) < 3:
        return None
    known = variables or frozenset()
    pattern = _CONSTANT if variables is not None else _OF_ANY_ANSWER
    old = sorted(name for name in theirs - known if pattern.fullmatch(name))
    new = sorted(name for name in ours - known if pattern.fullmatch(name))
    if not old or len(old) != len(new) or len(old) > MAX_CONSTANTS:
        return None
    if theirs - set(old) != ours - set(new) or not ours - set(new):
        return None
    one = renamed(gold, dict.fromkeys(new, new[0])), renamed(answer, dict.fromkeys(old, new[0]))
    try:
        if not values.equal(*one):  # what has no hope with one constant has none with several
            return None
        for names in permutations(new):
            other = renamed(answer, dict(zip(old, names, strict=True)))
            if values.equal(gold, other):
                return other
    except (Unparsable, Undefined, TooComplex):
        pass
    return None
