"""Test code, read: as calls with their values where it is no more than that, else to be judged."""

from __future__ import annotations

import ast
import builtins
from collections.abc import Iterator, Sequence
from typing import Any

from rewards.sandbox.kinds import BadTests, Call, Judged, Tests

MAX_LITERAL = 1_000_000
BUILTINS = set(dir(builtins))
MODULES = {
    "bisect", "cmath", "collections", "copy", "datetime", "functools", "heapq", "itertools",
    "math", "operator", "random", "re", "string", "sys",
}  # fmt: skip
"""Modules that test code may use without importing them, as it ran beside the program's imports."""


def from_code(source: str, *, setup: str, entry: str | None) -> Tests:
    try:
        tree = ast.parse(source)
    except SyntaxError as error:
        raise BadTests(f"test code does not parse: {error}") from error
    functions = (entry,) if entry else tuple(_free_names(tree, setup))
    shadowed = not functions  # the program redefines a built-in, such as sum
    calls = _as_calls(tree.body, entry=entry, any_name=shadowed)
    if calls:
        return calls
    if entry is None and _defines_check(tree.body):
        raise BadTests("tests that define check(candidate) need an entry_point")
    if not functions:
        raise BadTests("test code calls no function of the program")
    return Judged(source, _imports(tree) + setup, functions, entry)


def _imports(tree: ast.Module) -> str:
    """Imports of the modules that test code uses without saying so."""
    used = {node.id for node in ast.walk(tree) if isinstance(node, ast.Name)}
    return "".join(f"import {name}\n" for name in sorted(used & MODULES))


def _defines_check(body: Sequence[ast.stmt]) -> bool:
    return any(isinstance(node, ast.FunctionDef) and node.name == "check" for node in body)


def _as_calls(
    body: Sequence[ast.stmt], *, entry: str | None, any_name: bool = False
) -> list[Call] | None:
    """The tests as calls and values, or None when they are more than that."""
    calls: list[Call] = []
    for node in body:
        match node:
            case ast.FunctionDef(name="check", body=inner) if entry and len(node.args.args) == 1:
                candidate = node.args.args[0].arg
                renamed = [_renamed(part, candidate, entry) for part in inner]
                inner_calls = _as_calls(renamed, entry=entry)
                if not inner_calls:
                    return None
                calls += inner_calls
            case ast.Assert(test=test):
                call = _assertion(test, known=set() if any_name else BUILTINS)
                if call is None:
                    return None
                calls.append(call)
            case ast.Expr(value=ast.Constant()) | ast.Pass():
                continue
            case ast.Assign(targets=[ast.Name(id="METADATA")]):
                continue
            case ast.Expr(value=ast.Call(func=ast.Name(id="check"))):
                continue
            case _:
                return None
    return calls or None


def _renamed(node: ast.stmt, name: str, replacement: str) -> ast.stmt:
    for part in ast.walk(node):
        if isinstance(part, ast.Name) and part.id == name:
            part.id = replacement
    return node


def _assertion(test: ast.expr, *, known: set[str]) -> Call | None:
    """``f(x) == value``, ``f(x) is True``, ``f(x)`` or ``not f(x)``; f is no `known` name."""
    match test:
        case ast.Compare(left=left, ops=[ast.Eq() | ast.Is()], comparators=[right]):
            for call, value in ((left, right), (right, left)):
                if _calls_unknown(call, known):
                    try:
                        return Call(ast.unparse(call), constant(value))
                    except (ValueError, TypeError, OverflowError):
                        return None
        case ast.UnaryOp(op=ast.Not(), operand=call) if _calls_unknown(call, known):
            return Call(ast.unparse(call), False, truth=True)
        case call if _calls_unknown(call, known):
            return Call(ast.unparse(call), True, truth=True)
    return None


def _calls_unknown(node: ast.expr, known: set[str]) -> bool:
    return (
        isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id not in known
    )


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
        case ast.BinOp(left=left, op=ast.Add() | ast.Sub() | ast.Mult(), right=right):
            return _combined(node.op, constant(left), constant(right))
        case ast.Call(func=ast.Name(id=name), args=args, keywords=[]) if name in _CONSTRUCTORS:
            return _CONSTRUCTORS[name](*[constant(arg) for arg in args])
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
    if isinstance(operator, ast.Add):
        return left + right
    return left - right if isinstance(operator, ast.Sub) else left * right


def _free_names(tree: ast.Module, setup: str) -> Iterator[str]:
    """Names that test code calls and neither it, its setup nor Python defines."""
    bound = BUILTINS | MODULES
    for part in [*ast.walk(tree), *ast.walk(ast.parse(setup or "pass"))]:
        match part:
            case ast.FunctionDef(name=name) | ast.ClassDef(name=name):
                bound.add(name)
            case ast.Name(id=name, ctx=ast.Store()) | ast.arg(arg=name):
                bound.add(name)
            case ast.alias(name=name, asname=asname):
                bound.add(asname or name.partition(".")[0])
    calls = [part.func for part in ast.walk(tree) if isinstance(part, ast.Call)]
    called = [func.id for func in calls if isinstance(func, ast.Name)]
    yield from dict.fromkeys(name for name in called if name not in bound)
