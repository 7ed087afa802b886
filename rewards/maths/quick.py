"""A quick look at two expressions in floating point: it says that they differ, or nothing.

Values that differ clearly at one point are different; that is most wrong answers, and takes a
tenth of the time of exact arithmetic. Where a value is not real, large or nearly a pole, nothing
is said.
"""

from __future__ import annotations

import math
from collections.abc import Callable

from rewards.maths.tree import Node

LARGE, SMALL, CLEAR = 1e5, 1e-3, 1e-4
_POINTS = (0.7137, 1.3717, 0.4619, 1.7131, 0.6173, 2.2319, 0.8417, 1.1903, 2.7541)
"""Values of the first symbols, in the order in which they occur; more have values in between."""
_CONSTANTS = {"pi": math.pi, "e": math.e}


class _Unsure(ValueError):
    """Floating point does not say."""


def differ(first: Node, second: Node) -> bool:
    """Whether two expressions certainly have different values at some point where both are real."""
    values: dict[str, float] = {}
    try:
        one, two = _value(first, values), _value(second, values)
    except (_Unsure, ArithmeticError, ValueError, RecursionError):
        return False
    return abs(one - two) > CLEAR * (1 + max(abs(one), abs(two)))


def _value(node: Node, values: dict[str, float]) -> float:
    kind = node.kind
    if kind == "number":
        value = float(node.number or 0)
    elif kind == "symbol":
        value = values.get(node.name) or _chosen(node.name, values)
    elif kind == "constant":
        value = _CONSTANTS.get(node.name, math.inf)
    else:
        rule = _RULES.get(kind)
        if rule is None:
            raise _Unsure
        value = rule(node, [_value(arg, values) for arg in node.args])
    if not -LARGE < value < LARGE:
        raise _Unsure
    return value


def _chosen(name: str, values: dict[str, float]) -> float:
    number = len(values)
    values[name] = _POINTS[number % len(_POINTS)] + 0.0371 * (number // len(_POINTS))
    return values[name]


def _multiplied(_: Node, args: list[float]) -> float:
    return args[0] * args[1]


def _divided(_: Node, args: list[float]) -> float:
    if abs(args[1]) < SMALL:
        raise _Unsure
    return args[0] / args[1]


def _power(_: Node, args: list[float]) -> float:
    base, exponent = args
    if base < SMALL and not (exponent in (1, 2, 3, 4) or base < -SMALL and exponent.is_integer()):
        raise _Unsure
    return math.pow(base, exponent)


def _call(node: Node, args: list[float]) -> float:
    function = _FUNCTIONS.get(node.name)
    if function is None or len(args) != 1:
        return _of_many(node.name, args)
    return function(args[0])


def _of_many(name: str, args: list[float]) -> float:
    if name in ("max", "min"):
        return max(args) if name == "max" else min(args)
    if len(args) != 2 or args[0] < SMALL:
        raise _Unsure
    if name == "root" and abs(args[1]) > SMALL:
        return math.pow(args[0], 1 / args[1])
    if name == "log" and args[1] > SMALL and abs(args[1] - 1) > SMALL:
        return math.log(args[0]) / math.log(args[1])
    raise _Unsure


def _inverse(function: Callable[[float], float]) -> Callable[[float], float]:
    def of(value: float) -> float:
        below = function(value)
        if abs(below) < SMALL:
            raise _Unsure
        return 1 / below

    return of


def _positive(function: Callable[[float], float]) -> Callable[[float], float]:
    def of(value: float) -> float:
        if value < SMALL:
            raise _Unsure
        return function(value)

    return of


_RULES: dict[str, Callable[[Node, list[float]], float]] = {
    "add": lambda _, args: math.fsum(args),
    "multiply": _multiplied,
    "divide": _divided,
    "power": _power,
    "negate": lambda _, args: -args[0],
    "group": lambda _, args: args[0],
    "percent": lambda _, args: args[0] / 100,
    "degrees": lambda _, args: math.radians(args[0]),
    "call": _call,
}
_FUNCTIONS: dict[str, Callable[[float], float]] = {
    "sin": math.sin,
    "cos": math.cos,
    "tan": math.tan,
    "sec": _inverse(math.cos),
    "csc": _inverse(math.sin),
    "cot": _inverse(math.tan),
    "arctan": math.atan,
    "exp": math.exp,
    "abs": abs,
    "root": _positive(math.sqrt),
    "ln": _positive(math.log),
    "log": _positive(math.log),
    "lg": _positive(math.log10),
}
