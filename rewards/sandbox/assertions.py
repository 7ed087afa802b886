"""One assertion, read as a call of the program and the value that it should have.

``assert sorted(f(3)) == [1, 2]`` is the expression ``sorted(f(3))`` for the program's process, and
a list that stays here. What is expected never stands in an expression that goes over.
"""

from __future__ import annotations

import ast
import math
from typing import Any, NoReturn, TypeGuard

from rewards.sandbox.kinds import Call

MAX_LITERAL = 1_000_000
LARGE = 1e300
MAX_WITHIN = 0.4
"""The widest difference of numbers that is read: no constant is so near to both 0 and 1."""
WRAPPERS = {
    "abs", "dict", "float", "frozenset", "int", "len", "list", "max", "min", "repr", "round", "set",
    "sorted", "str", "sum", "tuple",
}  # fmt: skip
"""Built-ins through which tests look at an answer."""


def assertion(test: ast.expr, *, known: set[str]) -> Call | None:
    """``f(x) == value``, ``f(x) is True``, ``f(x)`` or ``not f(x)``; f is no `known` name.

    Also an answer under :data:`WRAPPERS`, an item or a method of it, ``in`` a list of values, and
    numbers that are compared with a tolerance; then all arguments are written out.
    """
    match test:
        case ast.Compare(left=left, ops=[ast.Eq() | ast.Is()], comparators=[right]):
            for call, value in ((left, right), (right, left)):
                if is_call(call, known):
                    return _equal(Call(ast.unparse(call), None), value)
                if isinstance(test.ops[0], ast.Eq) and known and is_answer(call, known):
                    return _equal(_wrapped(call, known), value)
            return None
        case ast.Compare(
            left=left, ops=[ast.In()], comparators=[ast.List() | ast.Tuple() as right]
        ):
            values = _constants(right.elts)
            if values and known and is_answer(left, known):
                return _with(_wrapped(left, known), *values)
        case ast.Compare(left=left, ops=[ast.Lt() | ast.LtE()], comparators=[ast.Constant(bound)]):
            if isinstance(bound, float) and known:
                return _near(left, bound, known)
        case ast.UnaryOp(op=ast.Not(), operand=call) if is_call(call, known):
            return Call(ast.unparse(call), False, truth=True)
        case call if is_call(call, known):
            return Call(ast.unparse(call), True, truth=True)
    return None


def is_call(node: ast.expr, known: set[str]) -> TypeGuard[ast.Call]:
    """Whether an expression is a call of something by a name that is not `known`."""
    return (
        isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id not in known
    )


def is_answer(node: ast.expr, known: set[str]) -> bool:
    """Whether an expression looks at one call of the program, with no other name but wrappers."""
    match node:
        case ast.Call(func=ast.Name(id=name), args=[inner, *others]) if name in WRAPPERS & known:
            return is_answer(inner, known) and _written([*others, *_named(node)])
        case ast.Call(func=ast.Attribute(value=inner), args=args):
            return is_answer(inner, known) and _written([*args, *_named(node)])
        case ast.Subscript(value=inner, slice=key):
            return is_answer(inner, known) and _written([key])
        case ast.Call(args=args):
            return is_call(node, known) and _written([*args, *_named(node)])
    return False


def _named(call: ast.Call) -> list[ast.expr]:
    return [keyword.value for keyword in call.keywords]


def _written(nodes: list[ast.expr]) -> bool:
    """Whether expressions are written out: no names, and so no calls."""
    return not any(isinstance(part, ast.Name) for node in nodes for part in ast.walk(node))


def _wrapped(node: ast.expr, known: set[str]) -> Call:
    """The expression, with the built-ins that it means and the name that it calls."""
    names = [part.id for part in ast.walk(node) if isinstance(part, ast.Name)]
    wrappers = tuple(dict.fromkeys(name for name in names if name in known))
    (tested,) = [name for name in names if name not in known]
    return Call(ast.unparse(node), None, wrappers=wrappers, tested=tested)


def _equal(call: Call, value: ast.expr) -> Call | None:
    """The call with its value, or with a number that ``pytest.approx`` stands around."""
    match value:
        case ast.Call(func=ast.Name(id="approx") | ast.Attribute(attr="approx"), args=[number]):
            due = _number(number)
            bounds = _bounds(value, ("rel", "abs"))
            if due is None or bounds is None:
                return None
            return _close(call, due, (bounds.get("rel", 1e-6), bounds.get("abs", 1e-12)))
    values = _constants([value])
    return _with(call, *values) if values else None


def _near(left: ast.expr, bound: float, known: set[str]) -> Call | None:
    """``abs(f(x) - value) < bound``."""
    match left:
        case ast.Call(
            func=ast.Name(id="abs") | ast.Attribute(value=ast.Name(id="math"), attr="fabs"),
            args=[ast.BinOp(left=one, op=ast.Sub(), right=other)],
            keywords=[],
        ):
            for answer, value in ((one, other), (other, one)):
                due = _number(value)
                if due is not None and is_answer(answer, known):
                    return _close(_wrapped(answer, known), due, (0.0, bound))
    return None


def _close(call: Call, due: float, bounds: tuple[float, float]) -> Call | None:
    within = max(bounds[0] * abs(due), bounds[1])
    if not (math.isfinite(within) and 0 <= within <= max(MAX_WITHIN, 1e-3 * abs(due))):
        return None
    return _with(call, due, within=within)


def _with(call: Call, expected: Any, *others: Any, within: float | None = None) -> Call:
    return Call(
        call.source,
        expected,
        others=others,
        wrappers=call.wrappers,
        tested=call.tested,
        within=within,
    )


def _bounds(call: ast.Call, names: tuple[str, ...]) -> dict[str, float] | None:
    bounds = {keyword.arg: _number(keyword.value) for keyword in call.keywords}
    if not set(bounds) <= set(names) or None in bounds.values():
        return None
    return bounds  # pyright: ignore[reportReturnType]


def _number(node: ast.expr) -> float | None:
    (value,) = _constants([node]) or (None,)
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        return None
    return value if abs(value) < LARGE else None


def _constants(nodes: list[ast.expr]) -> list[Any]:
    """Their values; none when one is no constant."""
    try:
        return [constant(node) for node in nodes]
    except (ValueError, TypeError, OverflowError):
        return []


def constant(node: ast.expr) -> Any:
    """The value of an expression of literals and of constructors of plain data.

    Raises:
        ValueError: when it is more than that.
    """
    match node:
        case ast.Constant(value=value):
            return value
        case ast.List(elts=items):
            return [constant(item) for item in items]
        case ast.Tuple(elts=items):
            return tuple(constant(item) for item in items)
        case ast.Set(elts=items):
            return {constant(item) for item in items}
        case ast.Dict(keys=keys, values=values):
            pairs = zip(keys, values, strict=True)
            return {constant(key): constant(value) for key, value in pairs if key is not None}
        case ast.UnaryOp(op=ast.USub(), operand=operand):
            return -constant(operand)
        case ast.BinOp(left=left, op=ast.Add() | ast.Sub() | ast.Mult() | ast.Div(), right=right):
            return _combined(node.op, constant(left), constant(right))
        case ast.Call(func=ast.Name(id=name), args=args, keywords=[]) if name in _CONSTRUCTORS:
            return _CONSTRUCTORS[name](*[constant(arg) for arg in args])
    return _no_constant()


def _no_constant() -> NoReturn:
    raise ValueError("no constant")


_CONSTRUCTORS = {
    kind.__name__: kind
    for kind in (set, frozenset, tuple, list, dict, float, int, complex, str, bytes)
}


def _combined(operator: ast.operator, left: Any, right: Any) -> Any:
    size = max(len(side) for side in (left, right, "") if isinstance(side, (str, list, tuple)))
    count = max((abs(side) for side in (left, right) if isinstance(side, int)), default=1)
    if isinstance(operator, ast.Mult) and size * count > MAX_LITERAL:
        raise ValueError("too long")
    if isinstance(operator, ast.Div):
        return left / right if right else _no_constant()
    if isinstance(operator, ast.Add):
        return left + right
    return left - right if isinstance(operator, ast.Sub) else left * right
