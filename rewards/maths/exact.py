"""Arithmetic on syntax trees that needs no evaluation: fractions, and terms that cancel."""

from __future__ import annotations

from fractions import Fraction

from rewards.maths.tree import Node

EXACT_BITS = 4_000
_TERMS = {"number", "add", "multiply", "negate", "divide", "power", "group"}


def exact(node: Node) -> Fraction | None:
    """The value of an arithmetic expression of rational numbers, or None for any other."""
    if node.kind not in _TERMS:
        return None
    if node.kind == "number":
        return node.number
    parts = [exact(arg) for arg in node.args]
    if any(part is None for part in parts):
        return None
    values = [part for part in parts if part is not None]
    match node.kind:
        case "group":
            return values[0]
        case "negate":
            return -values[0]
        case "add":
            result = sum(values, start=Fraction(0))
        case "multiply":
            result = values[0] * values[1]
        case "divide":
            result = values[0] / values[1] if values[1] else None
        case _:
            result = _exact_power(*values)
    return result if result is None or _bits(result) < EXACT_BITS else None


def _bits(value: Fraction) -> int:
    return value.numerator.bit_length() + value.denominator.bit_length()


def _exact_power(base: Fraction, exponent: Fraction) -> Fraction | None:
    if exponent.denominator != 1 or abs(exponent) * _bits(base) > EXACT_BITS:
        return None
    if base == 0 and exponent <= 0:
        return None
    return base ** int(exponent)


def cancelled(node: Node) -> Node:
    """The tree with opposite terms of a sum removed, so that huge ones need no evaluation."""
    if not node.args:
        return node
    args = tuple(cancelled(arg) for arg in node.args)
    if node.kind != "add":
        return Node(node.kind, args, node.name, node.number)
    rest: list[Node] = []
    for term in args:
        opposite = term.args[0] if term.kind == "negate" else Node("negate", (term,))
        if opposite in rest:
            rest.remove(opposite)
        else:
            rest.append(term)
    if not rest:
        return Node("number", number=Fraction(0))
    return rest[0] if len(rest) == 1 else Node("add", tuple(rest))
