"""Where functions of pieces change from one branch to another, and points on every branch.

Of one symbol, the places are roots of polynomials: of ``u`` for ``|u|`` and for even roots of
``u``, of differences for the largest and smallest, of ``u - k`` with small ``k`` for
``\\lfloor u\\rfloor``; and those of the derivatives, for bumps between. Other arguments have no
places that we know of.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
from fractions import Fraction
from typing import Any

from rewards.maths.evaluator import Evaluator, context
from rewards.maths.tree import Node, TooComplex, Undefined, Unparsable, symbols, walk

MAX_DEGREE, MAX_ROOTS, MAX_PLACES, MAX_FORMS, MAX_BRANCHES = 12, 5, 40, 24, 8
DIGITS = 60
STEPS = range(-2, 3)

Dense = list[Any]
"""Coefficients of a polynomial, the constant first."""


def places(*nodes: Node) -> list[Fraction]:
    """Where the branches of expressions of one symbol meet, in order.

    Raises:
        TooComplex: when there are too many.
    """
    mp = context()
    roots: set[Fraction] = set()
    with mp.workdps(DIGITS):
        for polynomial in _switches(nodes):
            for form in (polynomial, _derivative(polynomial)):
                roots.update(_roots(form))
            if len(roots) > MAX_PLACES:
                raise TooComplex(f"more than {MAX_PLACES} branches")
    return sorted(roots)


def points(where: Sequence[Fraction]) -> list[Fraction]:
    """The places themselves, two points between each two neighbours, and two beyond either end."""
    if not where:
        return []
    first, last = where[0], where[-1]
    between = [
        low + (high - low) * share
        for low, high in itertools.pairwise(where)
        for share in (Fraction(2, 5), Fraction(11, 17))
    ]
    ends = [first - 1000, first - Fraction(5, 7), last + Fraction(5, 7), last + 1000]
    far = [first - abs(first) / 3, last + abs(last) / 3]
    return [*where, *between, *ends, *far]


def _switches(nodes: Sequence[Node]) -> Iterator[Dense]:
    """Polynomials at whose roots a branch may change."""
    number = 0
    for part in {part for node in nodes for part in walk(node)}:
        if part.kind != "call" or not symbols(part):
            continue
        match part.name:
            case "abs":
                forms = [(part.args[0], (0,))]
            case "root" if len(part.args) == 1 or part.args[1].number in (4, 6, 8):
                forms = [(part.args[0], (0,))]
            case "floor" | "ceil":
                forms = [(part.args[0], STEPS)]
            case "max" | "min":
                pairs = itertools.combinations(part.args, 2)
                forms = [(Node("add", (a, Node("negate", (b,)))), (0,)) for a, b in pairs]
            case _:
                continue
        for form, steps in forms:
            for above, below in _quotients(form):
                number += 1
                if number > MAX_FORMS:
                    raise TooComplex("too many branches")
                yield below
                for step in steps:
                    yield _plus(above, [-step * factor for factor in below])


def _quotients(node: Node) -> list[tuple[Dense, Dense]]:
    """Numerator and denominator on every branch of the functions of pieces inside; [] if none."""
    mp = context()
    if not symbols(node):
        try:
            return [([mp.re(Evaluator({})(node))], [mp.mpf(1)])]
        except (Undefined, Unparsable, TooComplex, ValueError, ZeroDivisionError, OverflowError):
            return []
    parts = [_quotients(arg) for arg in node.args]
    match node.kind:
        case "symbol":
            return [([mp.mpf(0), mp.mpf(1)], [mp.mpf(1)])]
        case "group":
            return parts[0]
        case "negate":
            return [([-x for x in above], below) for above, below in parts[0]]
        case "add":
            return [_total(choice) for choice in _choices(parts)]
        case "multiply":
            return [(_times(a, c), _times(b, d)) for (a, b), (c, d) in _choices(parts)]
        case "divide":
            return [(_times(a, d), _times(b, c)) for (a, b), (c, d) in _choices(parts)]
        case "power":
            exponent = node.args[1].number
            if exponent is not None and exponent.denominator == 1 and 0 < exponent <= MAX_DEGREE:
                return [_raised(form, int(exponent)) for form in parts[0]]
        case "call" if node.name == "abs":
            negative = [([-x for x in above], below) for above, below in parts[0]]
            return (parts[0] + negative)[:MAX_BRANCHES]
        case "call" if node.name in ("max", "min"):
            return [form for part in parts for form in part][:MAX_BRANCHES]
    return []


def _choices(parts: Sequence[list[tuple[Dense, Dense]]]) -> Iterator[Sequence[Any]]:
    return itertools.islice(itertools.product(*parts), MAX_BRANCHES)


def _total(terms: Sequence[tuple[Dense, Dense]]) -> tuple[Dense, Dense]:
    above, below = terms[0]
    for other, divisor in terms[1:]:
        above = _plus(_times(above, divisor), _times(other, below))
        below = _times(below, divisor)
    return above, below


def _raised(form: tuple[Dense, Dense], exponent: int) -> tuple[Dense, Dense]:
    above, below = form
    for _ in range(exponent - 1):
        above, below = _times(above, form[0]), _times(below, form[1])
    return above, below


def _plus(one: Dense, two: Dense) -> Dense:
    return [a + b for a, b in itertools.zip_longest(one, two, fillvalue=context().mpf(0))]


def _times(one: Dense, two: Dense) -> Dense:
    if len(one) + len(two) > MAX_DEGREE + 2:
        raise TooComplex("branches of a high degree")
    result = [context().mpf(0)] * (len(one) + len(two) - 1)
    for i, a in enumerate(one):
        for j, b in enumerate(two):
            result[i + j] += a * b
    return result


def _derivative(form: Dense) -> Dense:
    return [index * factor for index, factor in enumerate(form)][1:]


def _roots(form: Dense) -> Iterator[Fraction]:
    """Real roots; a double one that rounding parts into two complex ones counts as real."""
    mp = context()
    while form and form[-1] == 0:
        form = form[:-1]
    while len(form) > 1 and form[0] == 0:
        form = form[1:]
        yield Fraction(0)
    if len(form) < 2:
        return
    if len(form) > MAX_ROOTS + 1:
        raise TooComplex("branches between roots of a high degree")
    if len(form) == 2:
        yield _exactly(-form[0] / form[1])
        return
    try:
        roots = mp.polyroots(form[::-1], maxsteps=40, extraprec=200)
    except mp.NoConvergence:  # of a multiple root, which the derivative has too
        yield from _roots(_derivative(form))
        return
    for root in roots:
        if mp.fabs(mp.im(root)) <= mp.mpf(10) ** -15 * (1 + mp.fabs(root)):
            yield _exactly(mp.re(root))


def _exactly(value: Any) -> Fraction:
    """The value as a fraction: the simple one at hand, where it is near one."""
    sign, mantissa, exponent, _ = value._mpf_
    exact = Fraction(mantissa) * (Fraction(2) ** exponent) * (-1 if sign else 1)
    simple = exact.limit_denominator(10**12)
    return simple if abs(simple - exact) <= abs(exact) / 10**30 else exact
