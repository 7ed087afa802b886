"""Numeric values of expressions, exact where that is cheap, and equality by evaluation.

Two expressions count as equal when their values agree to 30 digits: closed ones once, those with
symbols at several fixed points. The working precision of a sum is raised by the size of its
largest part, and the agreement must then be absolute too, so that nothing is lost beside it.
"""

from __future__ import annotations

import random
from collections.abc import Mapping
from fractions import Fraction
from typing import Any

from rewards.maths import branches
from rewards.maths.evaluator import AGREE_BITS, Evaluator, context, is_complex
from rewards.maths.exact import cancelled, exact
from rewards.maths.normal import shown
from rewards.maths.quick import differ
from rewards.maths.tree import Node, TooComplex, Undefined, Unparsable, symbols, walk

DIGITS = 50
MAX_WORKING_DIGITS = 4_000
MAX_VANISHING_DIGITS = 20_000
MAX_SYMBOLS = 30
POINTS, ENOUGH = 14, 4
PIECEWISE = {"min", "max", "floor", "ceil", "abs"}
FAR = (2, 4, 7, 10, 20, 50, 120)
"""Exponents of ten of the points at which functions of pieces are compared, too."""
LINES = 4
LOGARITHMS = {"ln", "log", "lg"}
SIGNED = tuple(Fraction(n, 7) for n in (-40, -11, -3, 3, 11, 40))
"""Points on both sides of zero and of one."""
INFINITY = Node("constant", name="infinity")


def equal(first: Node, second: Node) -> bool:
    """Whether two expressions have the same value, for all values of their symbols.

    Raises:
        TooComplex: when that would take numbers of more than a few thousand digits.
        Unparsable: when one of them is no expression (a set, words).
        Undefined: when there is nowhere that both have a value.
    """
    one, two = exact(first), exact(second)
    if one is not None and two is not None:
        return one == two
    if differ(first, second):
        return False
    if not any(part == INFINITY for node in (first, second) for part in walk(node)):
        first, second = cancelled(first), cancelled(second)
        if first == second:
            return True
        proof = shown(first, second)
        if proof is not None:
            return proof
    names = sorted(symbols(first) | symbols(second))
    if len(names) > MAX_SYMBOLS:
        raise TooComplex(f"more than {MAX_SYMBOLS} symbols")
    if not names:
        return _agree(first, second, {}, real=False)
    return _agree_at_points(first, second, names)


def _agree_at_points(first: Node, second: Node, names: list[str]) -> bool:
    imaginary = any(part == Node("constant", name="i") for part in walk(first))
    agreements = 0
    if not _agree_on_branches(first, second, names):
        return False
    if len(names) == 1 and _logarithms_differ(first, second, names[0]):
        return False
    if _piecewise(first, second) and not _agree_far_away(first, second, names):
        return False
    for environment in _points(names):
        try:
            if not _agree(first, second, environment, real=not imaginary):
                return False
        except Undefined:
            continue
        agreements += 1
        if agreements == ENOUGH:
            return True
    if agreements:
        return True
    return all(_agree(first, second, environment, real=False) for environment in _points(names)[:3])


def _logarithms_differ(first: Node, second: Node, name: str) -> bool:
    """Whether one has real values where a logarithm in the other has none: ``2 \\ln x``.

    Of one symbol only: several are lengths or the like, and positive.
    """
    if not any(
        part.kind == "call" and part.name in LOGARITHMS for n in (first, second) for part in walk(n)
    ):
        return False
    for point in SIGNED:
        try:
            one, two, _ = _pair(first, second, {name: point}, digits=DIGITS)
        except (Undefined, TooComplex):
            continue
        mp = context()
        if not (mp.isfinite(one) and mp.isfinite(two)):
            continue
        unreal = [node for node, value in ((first, one), (second, two)) if is_complex(value)]
        if len(unreal) == 1 and not any(map(_fractional, walk(unreal[0]))):
            return True
    return False


def _fractional(part: Node) -> bool:
    """Whether a power or root may be read as real, too, where it is not real to us."""
    if part.kind == "power":
        exponent = exact(part.args[1])
        return exponent is None or exponent.denominator > 1
    return part.kind == "call" and part.name in ("root", "arcsin", "arccos")


def _agree_on_branches(first: Node, second: Node, names: list[str]) -> bool:
    """Agreement at points on every branch that functions of pieces have.

    Of several symbols that is tried along lines, and only where both have such functions: else a
    branch could lie where no line goes, and normal forms would have shown what is equal.
    """
    if len(names) == 1:
        where = branches.points(branches.places(first, second))
        return _agree_at(first, second, [{names[0]: point} for point in where])
    if not _piecewise(first, second):
        return True
    if not (_piecewise(first) and _piecewise(second)):
        return False
    generator = random.Random("|".join(names))
    for _ in range(LINES):
        line = {
            name: (Fraction(generator.randint(-40, 40), 7), Fraction(generator.randint(-9, 9), 4))
            for name in names
        }
        on_it = [_substituted(node, line) for node in (first, second)]
        where = branches.points(branches.places(*on_it))
        environments = [{n: a + b * t for n, (a, b) in line.items()} for t in where]
        if not _agree_at(first, second, environments):
            return False
    return True


def _agree_at(first: Node, second: Node, where: list[dict[str, Fraction]]) -> bool:
    """Agreement wherever both have a real value."""
    return all(agrees(first, second, environment) is not False for environment in where)


def agrees(first: Node, second: Node, environment: Mapping[str, Fraction]) -> bool | None:
    """Whether both have the same real value at a point; None where either has none."""
    try:
        return _agree(first, second, environment, real=True)
    except (Undefined, TooComplex):
        return None


def _substituted(node: Node, line: Mapping[str, tuple[Fraction, Fraction]]) -> Node:
    """The expression along a line, in one symbol."""
    if node.kind == "symbol" and node.name in line:
        start, slope = (Node("number", number=number) for number in line[node.name])
        return Node("add", (start, Node("multiply", (slope, Node("symbol", name="t")))))
    args = tuple(_substituted(arg, line) for arg in node.args)
    return Node(node.kind, args, node.name, node.number)


def _piecewise(*nodes: Node) -> bool:
    return any(part.kind == "call" and part.name in PIECEWISE for n in nodes for part in walk(n))


def _agree_far_away(first: Node, second: Node, names: list[str]) -> bool:
    """Functions of pieces may be alike near zero and differ far away: ``max(x, -10^9)``."""
    far = [
        {name: Fraction(sign * (10**exponent + 3 * k)) for k, name in enumerate(names)}
        for exponent in FAR
        for sign in (1, -1)
    ]
    return _agree_at(first, second, far)


def _points(names: list[str]) -> list[dict[str, Fraction]]:
    """Fixed points: positive ones, ones of both signs, small whole ones."""
    generator = random.Random("|".join(names))
    points = []
    for index in range(POINTS):
        if index % 3 == 2:
            values = [Fraction(generator.randint(1, 9)) for _ in names]
        else:
            values = [Fraction(generator.randint(300_001, 2_999_999), 1_000_003) for _ in names]
        if index % 3 == 1:
            signs = (-1,) if index == 1 else (-1, 1)
            values = [value * generator.choice(signs) for value in values]
        points.append(dict(zip(names, values, strict=True)))
    return points


def _agree(first: Node, second: Node, environment: Mapping[str, Fraction], *, real: bool) -> bool:
    mp = context()
    one, two, bits = _pair(first, second, environment, digits=DIGITS)
    digits, sums = DIGITS + int(max(bits, 0) * 0.302), _sums(first) or _sums(second)
    if sums and bits > 20:
        if digits > MAX_WORKING_DIGITS:
            raise TooComplex("numbers of very different sizes in one sum")
        one, two, _ = _pair(first, second, environment, digits=digits)
    with mp.workdps(min(digits, MAX_WORKING_DIGITS)):
        if real and (is_complex(one) or is_complex(two)):
            raise Undefined("not real")
        if mp.isnan(one) or mp.isnan(two):
            raise Undefined("infinity less infinity, or the like")
        difference, size = mp.fabs(one - two), max(mp.fabs(one), mp.fabs(two))
        if not mp.isfinite(size):
            if real:
                raise Undefined("not finite")
            return bool(one == two)
        if size == 0:
            return True
        if difference == 0:
            return not (sums and _hides(first, second, environment))
        if min(mp.fabs(one), mp.fabs(two)) == 0 or mp.mag(size) < -AGREE_BITS:
            return _both_vanish(first, second, environment, digits=digits)
        relative = mp.mag(difference) - mp.mag(size) < -AGREE_BITS
        near = relative and (not sums or mp.mag(difference) < -AGREE_BITS or bits <= 20)
    return near and not (sums and _hides(first, second, environment))


def _hides(first: Node, second: Node, environment: Mapping[str, Fraction]) -> bool:
    """Whether a term too small for the usual digits, as in ``2 + e^{-200}``, makes a difference."""
    mp = context()
    _, _, evaluator = _evaluated(first, second, environment, digits=DIGITS)
    if evaluator.lost_bits <= AGREE_BITS:
        return False
    digits = DIGITS + int(evaluator.lost_bits * 0.302) + 50
    if digits > MAX_WORKING_DIGITS:
        raise TooComplex("numbers of very different sizes in one sum")
    one, two, _ = _evaluated(first, second, environment, digits=digits)
    with mp.workdps(digits):
        difference, size = mp.fabs(one - two), max(mp.fabs(one), mp.fabs(two))
        return difference != 0 and mp.mag(difference) - mp.mag(size) > -3.3 * (digits - 40)


def _both_vanish(
    first: Node, second: Node, environment: Mapping[str, Fraction], *, digits: int
) -> bool:
    """Tells zero from small: a zero shrinks as the precision grows, a small number stays."""
    if digits > MAX_VANISHING_DIGITS:
        raise TooComplex("a number too large or too small to be told from zero")
    mp = context()
    rough = _pair(first, second, environment, digits=digits)[:2]
    one, two, _ = _pair(first, second, environment, digits=2 * digits + 100)
    with mp.workdps(2 * digits + 100):
        sizes = [mp.fabs(value) for value in (one, two)]

        def vanishes(size: Any, before: Any) -> bool:
            if size == 0:
                return True
            shrinks = before == 0 or mp.mag(size) < mp.mag(before) - AGREE_BITS
            return shrinks and mp.mag(size) < -3.4 * (digits + 60)

        if all(map(vanishes, sizes, rough)):
            return True
        difference = mp.fabs(one - two)
        return difference == 0 or mp.mag(difference) < mp.mag(max(sizes)) - AGREE_BITS


def _sums(node: Node) -> bool:
    return any(part.kind in ("add", "plus_minus") for part in walk(node))


def _pair(
    first: Node, second: Node, environment: Mapping[str, Fraction], *, digits: int
) -> tuple[Any, Any, int]:
    """Both values, and the binary exponent of the largest part of either."""
    one, two, evaluator = _evaluated(first, second, environment, digits=digits)
    return one, two, evaluator.bits


def _evaluated(
    first: Node, second: Node, environment: Mapping[str, Fraction], *, digits: int
) -> tuple[Any, Any, Evaluator]:
    mp = context()
    with mp.workdps(digits):
        values = {name: mp.mpf(v.numerator) / v.denominator for name, v in environment.items()}
        evaluator = Evaluator(values)
        try:
            return evaluator(first), evaluator(second), evaluator
        except (ZeroDivisionError, OverflowError, mp.NoConvergence) as error:
            raise Undefined(str(error)) from error
        except ValueError as error:
            if isinstance(error, (Undefined, Unparsable, TooComplex)):
                raise
            raise Undefined(str(error)) from error


def real_value(node: Node) -> float:
    """A closed expression's value, to be sorted by.

    Raises:
        Undefined, Unparsable, TooComplex: when it has no real value.
    """
    value, _, _ = _pair(node, Node("number", number=Fraction(0)), {}, digits=30)
    if is_complex(value):
        raise Undefined("not real")
    return float(value.real)


def rounds_to(node: Node, decimal: Fraction, *, places: int) -> bool:
    """Whether a closed expression, rounded or cut off after `places` decimals, is `decimal`."""
    mp = context()
    value, _, _ = _pair(node, Node("number", number=Fraction(0)), {}, digits=DIGITS)
    if is_complex(value):
        return False
    with mp.workdps(DIGITS):
        scaled = value.real * mp.mpf(10) ** places
        if not mp.isfinite(scaled) or mp.mag(scaled) > 120:
            return False
        target = int(decimal * 10**places)
        rounded = int(mp.floor(mp.fabs(scaled) + mp.mpf("0.5")))
        cut = int(mp.floor(mp.fabs(scaled)))
        same_sign = (scaled < 0) == (target < 0) or target == 0
        return same_sign and abs(target) in (rounded, cut)
