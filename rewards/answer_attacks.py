"""Answers made of a gold that say another thing, for finding out what a reward pays.

One table: each kind takes a gold, and a value that differs from it, and gives completions that
deserve nothing; none where the gold is of another sort.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping, Sequence

Kind = Callable[[str, str], Sequence[str]]
_INTEGER = re.compile(r"-?\d{1,12}")
_QUANTITY = re.compile(r"(-?\d+(?:\.\d+)?)\s*(?:\\ )?\\(?:text|mathrm)\s?\{\s?([a-zA-Z]+)\s?\}")
_LETTER = re.compile(r"\(?([A-E])\)?")
_SYMBOL = re.compile(r"(?<![a-zA-Z\\])[a-df-hj-zA-Z](?![a-zA-Z])")
_VALUE = re.compile(r"([a-zA-Z])\(([a-z]|\d{1,3})\)")
_BETWEEN = re.compile(r"(-?\d{1,9})\s?<\s?([a-z])\s?<\s?(-?\d{1,9})")
_CONGRUENCE = re.compile(r"([a-z])\s?\\equiv\s?(\d{1,9})\s?\\pmod\s?\{?(\d{1,9})\}?")
_UNITS = ("cm", "kg", "hours")


def answer_attacks(gold: str, other: str) -> Iterator[tuple[str, str]]:
    """(kind, completion) of every kind that fits a gold."""
    for kind, completions in KINDS.items():
        for completion in completions(gold, other):
            yield kind, completion


def _boxed(*answers: str) -> list[str]:
    return [f"\\boxed{{{answer}}}" for answer in answers]


def _number(gold: str) -> int | None:
    bare = gold.rpartition("=")[2].strip()
    return int(bare) if _INTEGER.fullmatch(bare) else None


def _equations(gold: str, other: str) -> Sequence[str]:
    number = _number(gold)
    if number is None:
        return ()
    return _boxed(f"3x+5={3 * number + 5}", f"x-({number})=0", f"2x={2 * number}")


def _almost(gold: str, other: str) -> Sequence[str]:
    if _LETTER.fullmatch(gold) or any(mark in gold for mark in (",", "=", "\\text")):
        return ()
    symbol = _SYMBOL.search(gold)
    if symbol is None or len(re.findall(r"[a-zA-Z]{3,}", gold)) > gold.count("\\"):
        return _boxed(f"{gold}+10^{{-12}}") if _INTEGER.fullmatch(gold) else ()
    x = symbol[0]
    return _boxed(
        f"{gold}+\\max(0,{x}-10^{{30}})",
        f"{gold}+\\max(0,-{x}-10^{{130}})",
        f"{gold}+10^{{-60}}({x}-1)({x}-2)({x}-3)({x}-4)({x}-5)",
        f"{gold}+\\max(0,1-10^6({x}-37)^2)",
    )


def _words(gold: str, other: str) -> Sequence[str]:
    if not _INTEGER.fullmatch(gold) or int(gold) == 0:  # no halves are none
        return ()
    words = ("halves", "is wrong", "dozen", "squared", "per cent", "plus one", "or more", "thirds")
    return _boxed(*(f"{gold} \\text{{ {word}}}" for word in words))


def _units(gold: str, other: str) -> Sequence[str]:
    quantity = _QUANTITY.fullmatch(gold)
    if quantity is None:
        return ()
    units = [unit for unit in _UNITS if not unit.startswith(quantity[2][:1])]
    return _boxed(*(f"{quantity[1]} \\text{{ {unit}}}" for unit in units))


def _letters(gold: str, other: str) -> Sequence[str]:
    letter = _LETTER.fullmatch(gold)
    if letter is None:
        return ()
    a, b = letter[1], "B" if letter[1] == "A" else "A"
    lists = (f"{a}, {b}", f"\\text{{{a} or {b}}}", "ABCDE", f"{a}{b}", f"({a})({b})")
    return [*_boxed(*lists), f"The answer is {a} or {b}.", "A\nB\nC\nD\nE"]


def _ranges(gold: str, other: str) -> Sequence[str]:
    number = _number(gold)
    if number is None:
        return ()
    low, high = number - 1, number + 1
    ranges = (f"[{low}, {high}]", f"{low} < x < {high}", f"{number} \\pm 1", f"\\ge {number}")
    said = (f"The answer is between {low} and {high}.", f"The answer is at least {number}.")
    return [*_boxed(*ranges), *said]


def _digits(gold: str, other: str) -> Sequence[str]:
    if not re.fullmatch(r"\d{2,12}", gold):
        return ()
    shapes = (",".join(gold), ", ".join(gold), " ".join(gold), f"{gold[0]}.{gold[1:]}", gold * 2)
    return [completion for completion in _boxed(*shapes) if gold[:1] + gold not in completion]


def _prose(gold: str, other: str) -> Sequence[str]:
    box = f"\\boxed{{{gold}}}"
    return (
        f"{box} is wrong, the answer is ${other}$.",
        f"{box}. No wait, it is ${other}$.",
        f"{box}, or maybe ${other}$.",
        f"Is it {box}? No: ${other}$",
        f"{box}. Actually, the answer is ${other}$.",
        f"The answer is not {box}.",
    )


def _beside(gold: str, other: str) -> Sequence[str]:
    if _number(gold) in (None, 0, 1, -1):
        return ()
    box = f"\\boxed{{{gold}}}"
    return (
        f"The answer is $-{box}$.",
        f"The answer is $2\\cdot{box}$.",
        f"The answer is ${box}^2$.",
        f"The answer is twice {box}.",
        f"It is the reciprocal of {box}.",
    )


def _products(gold: str, other: str) -> Sequence[str]:
    value = _VALUE.fullmatch(gold)
    if value is None:
        return ()
    name, argument = value.groups()
    another = "g" if name != "g" else "h"
    return _boxed(f"{argument}{name}", f"{name}{argument}", f"{another}({argument})", argument)


def _alternatives(gold: str, other: str) -> Sequence[str]:
    between = _BETWEEN.fullmatch(gold)
    if between is None:
        return ()
    low, letter, high = between.groups()
    return _boxed(
        f"{letter}>{low} \\text{{ or }} {letter}<{high}",
        f"{letter}<{low} \\text{{ or }} {letter}>{high}",
        f"[{low},{high}]",
        f"{letter}<{high}",
    )


def _residues(gold: str, other: str) -> Sequence[str]:
    congruence = _CONGRUENCE.fullmatch(gold)
    if congruence is None:
        return ()
    head, residue, modulus = congruence[1], int(congruence[2]), int(congruence[3])
    return _boxed(
        f"{head}\\equiv {residue + 1} \\pmod {{{modulus}}}",
        f"{head}\\equiv {residue} \\pmod {{{2 * modulus}}}",
        f"{head}={residue}",
        str(residue),
        f"{head}={modulus}k-{residue}" if 2 * residue % modulus else f"{head}={modulus}",
    )


KINDS: Mapping[str, Kind] = {
    "an equation for its solution": _equations,
    "equal at most points": _almost,
    "words after the number": _words,
    "another unit": _units,
    "several letters": _letters,
    "a range with the gold": _ranges,
    "digits in another order or number": _digits,
    "taken back in prose": _prose,
    "a part of a longer formula": _beside,
    "a function's value as a product": _products,
    "either bound for both": _alternatives,
    "another residue": _residues,
}
