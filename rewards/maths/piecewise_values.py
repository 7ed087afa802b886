"""Functions of one letter by cases, compared by their values: ``|x|`` is x or -x by its sign."""

from __future__ import annotations

from collections.abc import Sequence
from fractions import Fraction
from typing import NamedTuple

from rewards.maths import branches, sets, values
from rewards.maths.exact import exact
from rewards.maths.parser import parse
from rewards.maths.tree import Node, TooComplex, Undefined, Unparsable, bare, symbols

MAX_VALUE_CHARS = 200
REST = "otherwise"


class Branch(NamedTuple):
    """A value and the pieces of the line on which it holds."""

    value: Node
    pieces: Sequence[sets.Piece]


def same_function(
    gold: Sequence[tuple[str, str]], answer: Sequence[tuple[str, str]]
) -> bool | None:
    """Whether two functions by cases have the same values; None where that is not to be said.

    Args:
        gold: values with their conditions; the last condition may be ``otherwise``. One value with
            the condition ``otherwise`` is a function without cases.
        answer: the same of the other.
    """
    try:
        ours, theirs = _branches(gold), _branches(answer)
        names = {name for branch in (*ours, *theirs) for name in symbols(branch.value)}
        names |= _letters(gold) | _letters(answer)
        if len(names) != 1:
            return None
        return _agree(ours, theirs, names.pop())
    except (Unparsable, Undefined, TooComplex, RecursionError):
        return None


def _letters(cases: Sequence[tuple[str, str]]) -> set[str]:
    return {name for _, text in cases if text != REST for name in symbols(parse(text))}


def _branches(cases: Sequence[tuple[str, str]]) -> list[Branch]:
    result = []
    for value, condition in cases:
        if len(value) > MAX_VALUE_CHARS:
            raise TooComplex("a long value")
        where = [sets.LINE] if condition == REST else sets.pieces(parse(condition))
        result.append(Branch(bare(parse(value)), where))
    return result


def _agree(ours: Sequence[Branch], theirs: Sequence[Branch], name: str) -> bool | None:
    ends = {
        end
        for branch in (*ours, *theirs)
        for piece in branch.pieces
        for bound in (piece.low, piece.high)
        if bound.node is not None
        for end in (_end(bound.node),)
    }
    switches = branches.places(*(branch.value for branch in (*ours, *theirs)))
    exact_ends = {end for end, sharp in ends if sharp}
    rough = {end for end, sharp in ends if not sharp}
    where = sorted({Fraction(0), *exact_ends, *rough, *switches})
    agreements = unclear = 0
    for point in sorted(set(branches.points(where))):
        if point in rough:
            continue
        one, two = _at(ours, point), _at(theirs, point)
        if one is None or two is None:
            if one is not two:
                return False
            continue
        same = values.agrees(one, two, {name: point})
        if same is False:
            return False
        agreements += same is not None
        unclear += same is None
    return True if agreements > max(len(where), 2 * unclear) else None


def _end(node: Node) -> tuple[Fraction, bool]:
    """Where a bound is, and whether that is exact."""
    value = exact(node)
    return (value, True) if value is not None else (Fraction(values.real_value(node)), False)


def _at(cases: Sequence[Branch], point: Fraction) -> Node | None:
    """The value of the first case that holds at a point."""
    for branch in cases:
        if any(_holds(piece, point) for piece in branch.pieces):
            return branch.value
    return None


def _holds(piece: sets.Piece, point: Fraction) -> bool:
    low, high = piece.low, piece.high
    above = low.node is None or point > _end(low.node)[0]
    below = high.node is None or point < _end(high.node)[0]
    if low.node is not None and low.closed and point == _end(low.node)[0]:
        above = True
    if high.node is not None and high.closed and point == _end(high.node)[0]:
        below = True
    return above and below
