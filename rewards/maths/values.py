"""Numeric values of expressions, exact where that is cheap, and equality by evaluation.

Two expressions count as equal when their values agree to 30 digits: closed ones once, those with
symbols at several fixed points. The working precision of a sum is raised by the size of its
largest part, and the agreement must then be absolute too, so that nothing is lost beside it.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Mapping
from fractions import Fraction
from functools import cache
from typing import Any

from rewards.maths.tree import Node, TooComplex, Unparsable, symbols, walk

DIGITS = 50
MAX_WORKING_DIGITS = 4_000
MAX_VANISHING_DIGITS = 20_000
MAX_SLOW_DIGITS = 200
"""For functions whose cost grows quickly with the digits."""
MAX_BITS = 1 << 40
"""Values whose binary exponent passes this are refused: arithmetic on the exponent itself slows."""
MAX_SYMBOLS = 30
AGREE_BITS = 100
POINTS, ENOUGH = 14, 4
EXACT_BITS = 4_000
INFINITY = Node("constant", name="infinity")
_TERMS = {"number", "add", "multiply", "negate", "divide", "power", "group"}


class Undefined(ValueError):
    """The expression has no value at this point, or none that is real and finite."""


@cache
def context() -> Any:
    """An mpmath context of our own; imported late, as it takes a tenth of a second."""
    from mpmath.ctx_mp import MPContext

    return MPContext()


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
    if not any(part == INFINITY for node in (first, second) for part in walk(node)):
        first, second = cancelled(first), cancelled(second)
        if first == second:
            return True
    names = sorted(symbols(first) | symbols(second))
    if len(names) > MAX_SYMBOLS:
        raise TooComplex(f"more than {MAX_SYMBOLS} symbols")
    if not names:
        return _agree(first, second, {}, real=False)
    return _agree_at_points(first, second, names)


def _agree_at_points(first: Node, second: Node, names: list[str]) -> bool:
    imaginary = any(part == Node("constant", name="i") for part in walk(first))
    agreed = 0
    for environment in _points(names):
        try:
            if not _agree(first, second, environment, real=not imaginary):
                return False
        except Undefined:
            continue
        agreed += 1
        if agreed == ENOUGH:
            return True
    if agreed:
        return True
    return all(_agree(first, second, environment, real=False) for environment in _points(names)[:3])


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
        if real and (_is_complex(one) or _is_complex(two)):
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


def _is_complex(value: Any) -> bool:
    mp = context()
    if not isinstance(value, mp.mpc):
        return False
    return value.imag != 0 and mp.mag(value.imag) > mp.mag(value) - AGREE_BITS


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
) -> tuple[Any, Any, _Evaluator]:
    mp = context()
    with mp.workdps(digits):
        values = {name: mp.mpf(v.numerator) / v.denominator for name, v in environment.items()}
        evaluator = _Evaluator(values)
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
    if _is_complex(value):
        raise Undefined("not real")
    return float(value.real)


def rounds_to(node: Node, decimal: Fraction, *, places: int) -> bool:
    """Whether a closed expression, rounded or cut off after `places` decimals, is `decimal`."""
    mp = context()
    value, _, _ = _pair(node, Node("number", number=Fraction(0)), {}, digits=DIGITS)
    if _is_complex(value):
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


class _Evaluator:
    """Evaluates at the context's precision, and keeps the size of the largest intermediate."""

    def __init__(self, environment: Mapping[str, Any]) -> None:
        self.environment = environment
        self.bits = 0
        self.lost_bits = 0
        """By how many bits a term was smaller than its sum, at most."""

    def __call__(self, node: Node) -> Any:
        value = self._value(node)
        mp = context()
        if value != 0 and mp.isfinite(value):
            bits = mp.mag(value)
            if abs(bits) > MAX_BITS:
                raise TooComplex("a number too large or small to compare")
            self.bits = max(self.bits, bits)
        return value

    def _value(self, node: Node) -> Any:
        mp = context()
        match node.kind:
            case "number":
                assert node.number is not None
                return mp.mpf(node.number.numerator) / node.number.denominator
            case "symbol":
                if node.name not in self.environment:
                    raise Unparsable(f"{node.name} is no number")
                return self.environment[node.name]
            case "constant":
                return _constant(node.name)
            case "group":
                return self(node.args[0])
            case "add":
                return self._sum([self(arg) for arg in node.args])
            case "multiply":
                return self(node.args[0]) * self(node.args[1])
            case "negate":
                return -self(node.args[0])
            case "divide":
                return self(node.args[0]) / self(node.args[1])
            case "power":
                return self._power(node)
            case "factorial":
                return self._factorial(self(node.args[0]))
            case "percent":
                return self(node.args[0]) / 100
            case "degrees":
                return self(node.args[0]) * mp.pi / 180
            case "call":
                return self._call(node)
        raise Unparsable(f"a {node.kind} is no number")

    def _sum(self, terms: list[Any]) -> Any:
        mp = context()
        total = mp.fsum(terms)
        if total != 0 and mp.isfinite(total):
            sizes = [mp.mag(term) for term in terms if term != 0]
            self.lost_bits = max(self.lost_bits, mp.mag(total) - min(sizes))
        return total

    def _power(self, node: Node) -> Any:
        mp = context()
        base, exponent = self(node.args[0]), self(node.args[1])
        if base == 0:
            if exponent == 0:
                raise Undefined("0^0")
            return mp.mpf(0) if mp.re(exponent) > 0 else 1 / base
        size = abs(mp.mag(base)) + 1
        if mp.mag(exponent) > 45 or size.bit_length() + mp.mag(exponent) > 42:
            raise TooComplex("a tower of exponents")
        return base**exponent

    def _factorial(self, value: Any) -> Any:
        mp = context()
        if _is_complex(value) or value < -170 or mp.mag(value) > 35:
            raise TooComplex("a large factorial")
        if mp.dps > MAX_SLOW_DIGITS and (value != mp.floor(value) or mp.mag(value) > 20):
            raise TooComplex("a large factorial to many digits")
        return mp.factorial(value)

    def _call(self, node: Node) -> Any:
        mp = context()
        args = [self(arg) for arg in node.args]
        if node.name in ("binom", "root", "log", "max", "min"):
            return _MANY[node.name](mp, args)
        if node.name not in _ONE or len(args) != 1:
            raise Unparsable(f"{node.name} of {len(args)} values")
        if node.name in ("exp", "sinh", "cosh") and mp.mag(args[0]) > 40:
            raise TooComplex("a large exponent")
        if node.name not in ("abs", "exp") and abs(args[0]) != 0 and mp.mag(args[0]) > 4000:
            raise TooComplex(f"{node.name} of a large number")
        return _ONE[node.name](mp, args[0])


def _constant(name: str) -> Any:
    mp = context()
    match name:
        case "pi":
            return +mp.pi
        case "e":
            return +mp.e
        case "i":
            return mp.mpc(0, 1)
    return mp.inf


def _root(mp: Any, args: list[Any]) -> Any:
    value = args[0]
    if len(args) == 1:
        return mp.sqrt(value)
    index = args[1]
    odd = not _is_complex(index) and index == mp.floor(index.real) and int(index) % 2 == 1
    if odd and not _is_complex(value) and value.real < 0:
        return -((-value.real) ** (1 / index))
    return value ** (1 / index)


def _logarithm(mp: Any, args: list[Any]) -> Any:
    if args[0] == 0:
        raise Undefined("log 0")
    return mp.log(args[0]) if len(args) == 1 else mp.log(args[0]) / mp.log(args[1])


def _binomial(mp: Any, args: list[Any]) -> Any:
    if any(mp.mag(arg) > 30 for arg in args if arg):
        raise TooComplex("a large binomial")
    if mp.dps > MAX_SLOW_DIGITS and any(mp.mag(arg) > 10 for arg in args if arg):
        raise TooComplex("a large binomial to many digits")
    return mp.binomial(*args)


def _extreme(choose: Callable[[Any], Any]) -> Callable[[Any, list[Any]], Any]:
    def of(mp: Any, args: list[Any]) -> Any:
        if any(_is_complex(arg) for arg in args):
            raise Undefined("not real")
        return choose([mp.re(arg) for arg in args])

    return of


_MANY: dict[str, Callable[[Any, list[Any]], Any]] = {
    "binom": _binomial,
    "root": _root,
    "log": _logarithm,
    "max": _extreme(max),
    "min": _extreme(min),
}
_ONE: dict[str, Callable[[Any, Any], Any]] = {
    "sin": lambda mp, x: mp.sin(x),
    "cos": lambda mp, x: mp.cos(x),
    "tan": lambda mp, x: mp.tan(x),
    "cot": lambda mp, x: mp.cot(x),
    "sec": lambda mp, x: mp.sec(x),
    "csc": lambda mp, x: mp.csc(x),
    "arcsin": lambda mp, x: mp.asin(x),
    "arccos": lambda mp, x: mp.acos(x),
    "arctan": lambda mp, x: mp.atan(x),
    "arccot": lambda mp, x: mp.acot(x),
    "arcsec": lambda mp, x: mp.asec(x),
    "arccsc": lambda mp, x: mp.acsc(x),
    "sinh": lambda mp, x: mp.sinh(x),
    "cosh": lambda mp, x: mp.cosh(x),
    "tanh": lambda mp, x: mp.tanh(x),
    "coth": lambda mp, x: mp.coth(x),
    "ln": lambda mp, x: _logarithm(mp, [x]),
    "lg": lambda mp, x: _logarithm(mp, [x, mp.mpf(10)]),
    "exp": lambda mp, x: mp.exp(x),
    "abs": lambda mp, x: mp.fabs(x),
    "floor": lambda mp, x: mp.floor(x),
    "ceil": lambda mp, x: mp.ceil(x),
}


def cancelled(node: Node) -> Node:
    """The tree with opposite terms of a sum removed, so that huge ones need no evaluation."""
    if not node.args:
        return node
    args = tuple(cancelled(arg) for arg in node.args)
    if node.kind != "add":
        return Node(node.kind, args, node.name, node.number)
    kept: list[Node] = []
    for term in args:
        opposite = term.args[0] if term.kind == "negate" else Node("negate", (term,))
        if opposite in kept:
            kept.remove(opposite)
        else:
            kept.append(term)
    if not kept:
        return Node("number", number=Fraction(0))
    return kept[0] if len(kept) == 1 else Node("add", tuple(kept))
