"""Intervals, inequalities and unions of them as one normal form: disjoint pieces in order."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction
from itertools import pairwise

from rewards.maths import values
from rewards.maths.tree import Node, Unparsable, bare, symbols

_FLIPPED = {"<": ">", "<=": ">=", ">": "<", ">=": "<=", "!=": "!=", "=": "="}


@dataclass(frozen=True)
class Bound:
    """An end of a piece; `sign` is -1 or 1 for the infinite ones, where `node` is None."""

    node: Node | None
    closed: bool
    sign: int = 0

    def position(self) -> float:
        if self.node is None:
            return self.sign * float("inf")
        return values.real_value(self.node)


@dataclass(frozen=True)
class Piece:
    """Everything from `low` to `high`."""

    low: Bound
    high: Bound


LINE = Piece(Bound(None, False, -1), Bound(None, False, 1))


_ZERO = Node("number", number=Fraction(0))
_LINES = {
    "mathbb_R": LINE,
    "mathbb_R^+": Piece(Bound(_ZERO, False), LINE.high),
    "mathbb_R^-": Piece(LINE.low, Bound(_ZERO, False)),
}


def is_set_like(node: Node) -> bool:
    """Whether the node can only mean a set of numbers: an inequality, a half-closed interval..."""
    node = bare(node)
    match node.kind:
        case "union" | "intersection" | "without":
            return True
        case "such_that":
            return is_set_like(node.args[1])
        case "tuple":
            return len(node.args) == 2 and (node.name in ("[)", "(]") or _infinite(node))
        case "relation":
            operators = node.name.split()
            return all(o in ("<", "<=", ">", ">=", "!=") for o in operators) or (
                operators == ["in"]
                and bare(node.args[0]).kind == "symbol"
                and is_interval(node.args[1])
            )
        case "list":
            return bool(node.args) and all(is_set_like(arg) for arg in node.args)
        case "symbol":
            return node.name in _LINES
    return False


def _excluded(node: Node) -> bool:
    """Whether a list says of one letter what it is not: ``x != 1, x != 2``."""
    items = [bare(arg) for arg in node.args]
    unequal = all(item.kind == "relation" and item.name == "!=" for item in items)
    return bool(items) and unequal and len({bare(item.args[0]) for item in items}) == 1


def is_interval(node: Node) -> bool:
    """Whether the node can be read as a set of numbers, an open interval (a, b) included."""
    node = bare(node)
    return is_set_like(node) or (node.kind == "tuple" and len(node.args) == 2)


def _infinite(node: Node) -> bool:
    return any(_bound(arg, closed=False).node is None for arg in node.args)


def pieces(node: Node) -> list[Piece]:
    """The disjoint pieces of a set, in order.

    Raises:
        Unparsable: when it is not built of intervals.
        Undefined: when its ends cannot be ordered because they hold symbols.
    """
    return _united(_pieces(bare(node)))


def _pieces(node: Node) -> list[Piece]:
    node = bare(node)
    match node.kind:
        case "union":
            return [*_pieces(node.args[0]), *_pieces(node.args[1])]
        case "list" if not _excluded(node):
            parts = [_pieces(arg) for arg in node.args]
            together = _together(node, parts)
            if together is not None:
                return together
            return _listed([piece for part in parts for piece in part])
        case "such_that":
            return _pieces(node.args[1])
        case "tuple" if len(node.args) == 2:
            low = _bound(node.args[0], closed=node.name[0] == "[")
            high = _bound(node.args[1], closed=node.name[1] == "]")
            return [Piece(low, high)]
        case "set":
            return [Piece(Bound(arg, True), Bound(arg, True)) for arg in node.args]
        case "relation":
            return _solved(node)
        case "symbol" if node.name in _LINES:
            return [_LINES[node.name]]
        case "list" if _excluded(node):
            points = tuple(bare(arg).args[1] for arg in node.args)
            return _without([LINE], Node("set", points))
        case "without":
            return _without(_pieces(node.args[0]), node.args[1])
    raise Unparsable(f"a {node.kind} is no set of numbers")


def _bound(node: Node, *, closed: bool) -> Bound:
    inner, sign = bare(node), 1
    while inner.kind == "negate":
        inner, sign = bare(inner.args[0]), -sign
    if inner == values.INFINITY:
        return Bound(None, False, sign)
    return Bound(node, closed)


def _solved(node: Node) -> list[Piece]:
    """An inequality, or a chain of two, whose middle is one symbol."""
    operators, operands = node.name.split(), [bare(arg) for arg in node.args]
    if operators == ["in"] and operands[0].kind == "symbol":
        return _pieces(operands[1])
    near = _near(operators, operands)
    if near is not None:
        return near
    if len(operands) == 3 and operands[1].kind == "symbol":
        one, two = operators
        if one[0] == two[0] == ">":
            operands, one, two = operands[::-1], _FLIPPED[two], _FLIPPED[one]
        if one[0] == two[0] == "<":
            low = _bound(operands[0], closed=one == "<=")
            return [Piece(low, _bound(operands[2], closed=two == "<="))]
    if len(operands) == 2 and operators[0] in _FLIPPED:
        operator = operators[0]
        if operands[0].kind != "symbol":
            operands, operator = operands[::-1], _FLIPPED[operator]
        if operands[0].kind == "symbol" and operands[0].name not in symbols(operands[1]):
            return _half_line(operator, operands[1])
    raise Unparsable("a relation that is not solved for one symbol")


def _near(operators: Sequence[str], operands: Sequence[Node]) -> list[Piece] | None:
    """``|x - 1| < 3``, and ``3 < |x|``, as the interval around 1 or what lies outside of it."""
    if len(operands) != 2 or operators[0] not in _FLIPPED:
        return None
    (left, right), operator = operands, operators[0]
    if right.kind == "call":
        left, right, operator = right, left, _FLIPPED[operator]
    if (left.kind, left.name) != ("call", "abs") or symbols(right) or operator[0] not in "<>":
        return None
    middle = _middle(bare(left.args[0]))
    if middle is None or values.real_value(right) <= 0:
        return None
    closed = operator.endswith("=")
    low = Bound(Node("add", (middle, Node("negate", (right,)))), closed)
    high = Bound(Node("add", (middle, right)), closed)
    return (
        [Piece(low, high)] if operator[0] == "<" else [Piece(LINE.low, low), Piece(high, LINE.high)]
    )


def _middle(node: Node) -> Node | None:
    """Where ``x`` or ``x - a`` is zero; None for anything else."""
    if node.kind == "symbol":
        return _ZERO
    if node.kind != "add" or len(node.args) != 2:
        return None
    first, second = (bare(arg) for arg in node.args)
    if first.kind == "symbol" and not symbols(second):
        return second.args[0] if second.kind == "negate" else Node("negate", (second,))
    return None


def _half_line(operator: str, end: Node) -> list[Piece]:
    bound = Bound(end, operator.endswith("="))
    match operator[0]:
        case "<":
            return [Piece(LINE.low, bound)]
        case ">":
            return [Piece(bound, LINE.high)]
        case "=":
            return [Piece(bound, bound)]
    return [Piece(LINE.low, bound.__class__(end, False)), Piece(Bound(end, False), LINE.high)]


def _without(whole: Sequence[Piece], removed: Node) -> list[Piece]:
    removed = bare(removed)
    if removed.kind != "set":
        raise Unparsable("a set less something that is not listed")
    result = list(whole)
    for point in removed.args:
        position = values.real_value(point)
        split: list[Piece] = []
        for piece in result:
            if piece.low.position() < position < piece.high.position():
                split += [
                    Piece(piece.low, Bound(point, False)),
                    Piece(Bound(point, False), piece.high),
                ]
            else:
                split.append(piece)
        result = split
    return result


def _together(node: Node, parts: Sequence[list[Piece]]) -> list[Piece] | None:
    """``x > 1, x < 3`` as one piece: of two half-lines that overlap both are meant to hold."""
    relations = [bare(arg) for arg in node.args]
    if node.name == "or" or len(parts) != 2 or any(len(part) != 1 for part in parts):
        return None
    if any(item.kind != "relation" or len(item.args) != 2 for item in relations):
        return None
    letters = ({bare(arg) for arg in item.args if bare(arg).kind == "symbol"} for item in relations)
    if not set.intersection(*letters):
        return None
    (one,), (two,) = parts
    if one.low.node is not None:
        one, two = two, one
    half_lines = one.low.node is None and two.high.node is None
    if not half_lines or one.high.node is None or two.low.node is None:
        return None
    if two.low.position() < one.high.position():
        return [Piece(two.low, one.high)]
    return [] if node.name == "and" else None


def _listed(parts: list[Piece]) -> list[Piece]:
    """Alternatives, which must not overlap: "[1, 3] or [1, 2]" is two answers, not one."""
    parts = sorted(parts, key=lambda piece: piece.low.position())
    for before, after in pairwise(parts):
        if after.low.position() < before.high.position():
            raise Unparsable("intervals that overlap")
    return parts


def _united(parts: list[Piece]) -> list[Piece]:
    if len(parts) < 2:
        return parts
    parts = sorted(parts, key=lambda piece: (piece.low.position(), not piece.low.closed))
    joined = [parts[0]]
    for piece in parts[1:]:
        last = joined[-1]
        gap = piece.low.position() - last.high.position()
        if gap < 0 or (gap == 0 and (piece.low.closed or last.high.closed)):
            if piece.high.position() > last.high.position():
                joined[-1] = Piece(last.low, piece.high)
        else:
            joined.append(piece)
    return joined


def same(first: Sequence[Piece], second: Sequence[Piece]) -> bool:
    """Whether two normal forms are the same set; their ends may hold symbols."""
    return len(first) == len(second) and all(
        _same_bound(one.low, two.low) and _same_bound(one.high, two.high)
        for one, two in zip(first, second, strict=True)
    )


def _same_bound(one: Bound, two: Bound) -> bool:
    if one.node is None or two.node is None:
        return one.node is two.node and one.sign == two.sign
    return one.closed == two.closed and values.equal(one.node, two.node)
