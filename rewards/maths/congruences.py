"""Congruences: ``x \\equiv 3 \\pmod 7``, ``7 \\mid x - 3``, "x is a multiple of 7", ``x = 7k + 3``.

Each says which letter it speaks of, if any, the modulus, and the residues.
"""

from __future__ import annotations

import re
from typing import NamedTuple

from rewards.maths.spoken import words_of

MAX_CHARS = 120
_MARKS = ("mod", "mid", "∣", "|", "divi", "multiple")
_PLAIN = re.compile(r"[-+.,$\d\s/]+")
_LEFT = r"(?:(?P<letter>[a-z]) ?(?:\\equiv|≡|=|is congruent to|is) ?)?"
_RESIDUES = (
    r"(?P<residues>(?:\\pm ?)?-?\d{1,9}(?:(?: ?, ?(?:or |and )?| or | and )-?\d{1,9}){0,11})"
)
_MODULO = re.compile(
    rf"{_LEFT}{_RESIDUES} ?\(? ?(?:\\[bp]?mod|mod|modulo) ?[{{(]* ?(?P<modulus>\d{{1,9}}) ?[}})]*"
)
_DIVISIBLE = re.compile(
    r"(?:(?:all |any |every )?(?:(?:positive )?integers? )?(?P<letter>[a-z]) )?"
    r"(?:(?:must be|is|are|be) )?(?:divisible by|an? multiple of|multiples of) (?P<modulus>\d{1,9})"
)
_DIVIDES = re.compile(
    r"(?P<modulus>\d{1,9}) ?(?:\\mid|∣|\||divides) ?\(?(?P<letter>[a-z])"
    r"(?: ?(?P<sign>[-+]) ?(?P<shift>\d{1,9}))?\)?"
)
_FORM = re.compile(
    r"(?:(?P<letter>[a-z]) ?(?:=|is of the form) ?)?(?P<modulus>\d{1,9})[a-z]"
    r"(?: ?(?P<sign>[-+]) ?(?P<shift>\d{1,9}))?"
    r"(?: ?,? ?(?:(?:for|where) (?:some |any |an )?(?:integer )?)?"
    r"[a-z](?: ?\\in ?\\mathbb ?\{? ?z ?\}?| (?:is )?(?:an )?integers?)?)?"
)


class Congruence(NamedTuple):
    """A letter, or nothing, its modulus and its residues."""

    letter: str
    modulus: int
    residues: frozenset[int]


def speaks_of_residues(text: str) -> bool:
    """Whether a text may hold a congruence: quick to say."""
    return len(text) <= MAX_CHARS and any(mark in text for mark in _MARKS)


def congruence(text: str, *, form: bool = False) -> Congruence | None:
    """The congruence that a whole answer is; with `form`, also of ``x = 7k + 3``.

    >>> congruence("x \\\\equiv 10 \\\\pmod{7}")
    Congruence(letter='x', modulus=7, residues=frozenset({3}))
    """
    if len(text) > MAX_CHARS:
        return None
    words = words_of(text).replace("\\left", "").replace("\\right", "")
    match = _MODULO.fullmatch(words)
    if match:
        residues = [int(number) for number in re.findall(r"-?\d+", match["residues"])]
        if "\\pm" in match["residues"]:
            residues += [-number for number in residues]
        return _congruence(match, residues)
    match = _DIVISIBLE.fullmatch(words)
    if match:
        return _congruence(match, [0])
    match = _DIVIDES.fullmatch(words)
    if match:
        return _congruence(match, [-_shift(match)])
    match = _FORM.fullmatch(words) if form else None
    return _congruence(match, [_shift(match)]) if match else None


def _shift(match: re.Match[str]) -> int:
    shift = int(match["shift"] or 0)
    return -shift if match["sign"] == "-" else shift


def _congruence(match: re.Match[str], residues: list[int]) -> Congruence | None:
    modulus = int(match["modulus"])
    if modulus < 2:
        return None
    return Congruence(
        match["letter"] or "", modulus, frozenset(residue % modulus for residue in residues)
    )


def same_congruence(gold: str, answer: str) -> bool | None:
    """Whether two answers are the same congruence; None unless one is and the other may be."""
    if not (speaks_of_residues(gold) or speaks_of_residues(answer)):
        return None
    ours, theirs = congruence(gold), congruence(answer)
    if ours is None and theirs is None:
        return None
    if ours is None and _PLAIN.fullmatch(gold):
        return False  # 7 divides n, for 7
    ours = ours or congruence(gold, form=True)
    theirs = theirs or congruence(answer, form=True)
    if ours is None or theirs is None:
        return None
    named = not ours.letter or not theirs.letter or ours.letter == theirs.letter
    return named and ours[1:] == theirs[1:]
