"""Evaluation of expressions with mpmath, at the precision that its context is set to."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import cache
from typing import Any

from rewards.maths.tree import Node, TooComplex, Undefined, Unparsable, symbols

MAX_SLOW_DIGITS = 200
"""For functions whose cost grows quickly with the digits."""
MAX_BITS = 1 << 40
"""Values whose binary exponent passes this are refused: arithmetic on the exponent itself slows."""
AGREE_BITS = 100
SATURATED = {"tanh": 5, "coth": 5, "arctan": 60, "arccot": 60}
"""Binary exponents of arguments from which on these are their limit to our digits."""


@cache
def context() -> Any:
    """An mpmath context of our own; imported late, as it takes a tenth of a second."""
    from mpmath.ctx_mp import MPContext

    return MPContext()


def is_complex(value: Any) -> bool:
    """Whether a value has an imaginary part that no rounding explains."""
    mp = context()
    if not isinstance(value, mp.mpc):
        return False
    return value.imag != 0 and mp.mag(value.imag) > mp.mag(value) - AGREE_BITS


class Evaluator:
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
            if symbols(node.args[1]):
                raise Undefined("a power of 0 that varies")
            if exponent == 0:
                raise Undefined("0^0")
            return mp.mpf(0) if mp.re(exponent) > 0 else 1 / base
        size = abs(mp.mag(base)) + 1
        if mp.mag(exponent) > 45 or size.bit_length() + mp.mag(exponent) > 42:
            raise TooComplex("a tower of exponents")
        return base**exponent

    def _factorial(self, value: Any) -> Any:
        mp = context()
        if is_complex(value) or value < -170 or mp.mag(value) > 35:
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
        if node.name in SATURATED and args[0] != 0 and mp.mag(args[0]) > SATURATED[node.name]:
            raise TooComplex(f"{node.name} of a value where it hardly changes")
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
    odd = not is_complex(index) and index == mp.floor(index.real) and int(index) % 2 == 1
    if odd and not is_complex(value) and value.real < 0:
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
        if any(is_complex(arg) or mp.im(arg) != 0 for arg in args):
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
    "cis": lambda mp, x: mp.cos(x) + mp.mpc(0, 1) * mp.sin(x),
    "abs": lambda mp, x: mp.fabs(x),
    "floor": lambda mp, x: mp.floor(x),
    "ceil": lambda mp, x: mp.ceil(x),
}
