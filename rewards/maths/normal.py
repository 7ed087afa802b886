"""Rational functions as quotients of polynomials with exact coefficients: their normal form.

What is no arithmetic (``\\sqrt 2``, ``\\sin x``, ``|x|``) is one more indeterminate, so that equal
normal forms show equality, and different ones show inequality where there is nothing else.
"""

from __future__ import annotations

from fractions import Fraction

from rewards.maths.tree import Node

MAX_TERMS = 200
MAX_POWER = 60
MAX_BITS = 4_000

Monomial = frozenset[tuple[Node, int]]
"""Parts with their powers; the empty one is 1."""
Polynomial = dict[Monomial, Fraction | int]
"""Whole coefficients as integers, whose arithmetic is quicker."""
Quotient = tuple[Polynomial, Polynomial]
UNIT: Monomial = frozenset()
ONE: Polynomial = {UNIT: 1}


class TooLarge(ValueError):
    """The normal form has too many terms or digits."""


def shown(first: Node, second: Node) -> bool | None:
    """Whether normal forms show two expressions equal (True) or different (False), or neither."""
    try:
        one, two = _quotient(_absolute(first)), _quotient(_absolute(second))
        left, right = _product(one[0], two[1]), _product(two[0], one[1])
    except (TooLarge, ZeroDivisionError):
        return None
    if left == right:
        return True
    parts = {part for form in (*one, *two) for term in form for part, _ in term}
    return False if all(part.kind == "symbol" for part in parts) else None


def written(node: Node) -> str:
    """A text that is the same for all ways to write a polynomial: ``x + 1`` and ``1 + x``."""
    try:
        above, below = _quotient(node)
    except (TooLarge, ZeroDivisionError):
        return repr(node)
    forms = (
        sorted((_spelled(term), Fraction(factor)) for term, factor in form.items())
        for form in (above, below)
    )
    return repr(list(forms))


def _absolute(node: Node) -> Node:
    """The tree with the larger and the smaller of two values by their distance."""
    args = tuple(_absolute(arg) for arg in node.args)
    if node.kind == "call" and node.name in ("max", "min") and len(args) == 2:
        less = Node("negate", (args[1],))
        distance = Node("call", (Node("add", (args[0], less)),), "abs")
        signed = distance if node.name == "max" else Node("negate", (distance,))
        total = Node("add", (*args, signed))
        return Node("divide", (total, Node("number", number=Fraction(2))))
    return Node(node.kind, args, node.name, node.number)


def _quotient(node: Node) -> Quotient:
    match node.kind:
        case "number" if node.number is not None:
            number = node.number
            whole = number.numerator if number.denominator == 1 else number
            return {UNIT: whole} if whole else {}, ONE
        case "group":
            return _quotient(node.args[0])
        case "negate":
            above, below = _quotient(node.args[0])
            return {term: -factor for term, factor in above.items()}, below
        case "add":
            total: Quotient = ({}, ONE)
            for arg in node.args:
                total = _sum(total, _quotient(arg))
            return total
        case "multiply" | "divide":
            (a, b), (c, d) = _quotient(node.args[0]), _quotient(node.args[1])
            if node.kind == "divide":
                c, d = d, c
            if not d:
                raise ZeroDivisionError
            return _product(a, c), _product(b, d)
        case "power":
            exponent = _whole(node.args[1])
            if exponent is not None:
                return _power(_quotient(node.args[0]), exponent)
        case "call" if node.name == "abs":
            return {frozenset(((_distance(node), 1),)): 1}, ONE
    return {frozenset(((node, 1),)): 1}, ONE


def _distance(node: Node) -> Node:
    """The absolute value, the same for opposite arguments."""
    above, below = _quotient(node.args[0])
    if below != ONE or not above:
        return node
    first = min(above, key=_spelled)
    sign = -1 if above[first] < 0 else 1
    terms = sorted((_spelled(term), Fraction(factor * sign)) for term, factor in above.items())
    return Node("call", name=f"abs {terms}")


def _whole(node: Node) -> int | None:
    above, below = _quotient(node)
    if below != ONE or set(above) - {UNIT}:
        return None
    value = above.get(UNIT, 0)
    if value.denominator != 1:
        return None
    if abs(value) > MAX_POWER:
        raise TooLarge
    return int(value)


def _power(base: Quotient, exponent: int) -> Quotient:
    if exponent < 0:
        base, exponent = (base[1], base[0]), -exponent
    if not base[1] or (exponent == 0 and not base[0]):
        raise ZeroDivisionError
    result: Quotient = (ONE, ONE)
    for _ in range(exponent):
        result = _product(result[0], base[0]), _product(result[1], base[1])
    return result


def _sum(one: Quotient, two: Quotient) -> Quotient:
    if one[1] == two[1]:
        return _added(one[0], two[0]), one[1]
    above = _added(_product(one[0], two[1]), _product(two[0], one[1]))
    return above, _product(one[1], two[1])


def _added(one: Polynomial, two: Polynomial) -> Polynomial:
    total = dict(one)
    for term, factor in two.items():
        total[term] = total.get(term, 0) + factor
    return {term: factor for term, factor in total.items() if factor}


def _product(one: Polynomial, two: Polynomial) -> Polynomial:
    if len(one) * len(two) > 10 * MAX_TERMS:
        raise TooLarge
    result: Polynomial = {}
    for left, a in one.items():
        for right, b in two.items():
            term = _monomial(left, right)
            factor = result.get(term, 0) + a * b
            if factor.numerator.bit_length() + factor.denominator.bit_length() > MAX_BITS:
                raise TooLarge
            result[term] = factor
    if len(result) > MAX_TERMS:
        raise TooLarge
    return {term: factor for term, factor in result.items() if factor}


def _monomial(left: Monomial, right: Monomial) -> Monomial:
    if not left or not right:
        return left or right
    powers = dict(left)
    for part, exponent in right:
        powers[part] = powers.get(part, 0) + exponent
    return frozenset(powers.items())


def _spelled(term: Monomial) -> str:
    """A text of a monomial that is the same in whatever order its parts are."""
    return repr(sorted(map(repr, term)))
