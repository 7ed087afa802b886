"""Test code, read: as calls with their values where it is no more than that, else to be judged."""

from __future__ import annotations

import ast
import re
from collections.abc import Sequence
from functools import lru_cache
from typing import Any, TypeGuard

from rewards.sandbox.kinds import BadTests, Call, Judged, Tests
from rewards.sandbox.plain_tests import plain_calls
from rewards.sandbox.program_names import BUILTINS, program_names
from rewards.sandbox.sides import sides_apart

_FENCED = re.compile(r"```\w*[ \t]*\r?\n(?P<code>[^`]*)```")
MAX_LITERAL = 1_000_000


@lru_cache(maxsize=512)
def from_code(source: str, *, setup: str, entry: str | None) -> Tests:
    """The tests that code holds: calls with their values, or code for a judge.

    A byte order mark, and a fence around all of it, are taken away.

    Raises:
        BadTests: when it does not parse, or asks for what a judge cannot do.
    """
    source = source.removeprefix("\ufeff")
    fenced = _FENCED.fullmatch(source.strip())
    source = fenced["code"] if fenced else source
    try:
        tree = ast.parse(source)
        ast.parse(setup)
    except (SyntaxError, ValueError) as error:
        line = getattr(error, "text", None) or source.strip().partition("\n")[0]
        raise BadTests(
            f"test code does not parse: {error} ({line.strip()[:60]!r}); write Python, such as "
            "assert f(2) == 4, or set args: {language: ...} for test code of another language"
        ) from error
    taken = program_names(source, tree, setup=setup, entry=entry)
    called = {node.func.id for node in ast.walk(tree) if _is_named_call(node)}
    needs_entry = _defines_check(tree.body) and entry is None and "check" not in called
    if needs_entry:
        raise BadTests("tests that define check(candidate) need an entry_point")
    shadowed = not taken.names and not taken.modules  # the program redefines a built-in
    calls = _as_calls(tree.body, entry=entry, any_name=shadowed)
    if calls is None and not shadowed and not setup.strip():
        calls = plain_calls(tree.body, taken, lambda test: _assertion(test, known=BUILTINS))
    if calls:
        return calls
    return Judged(
        source=source,
        setup="".join(f"{line}\n" for line in taken.unsaid) + setup,
        functions=taken.names,
        entry=entry,
        classes=taken.classes,
        modules=taken.modules,
        star=taken.star,
        imports=taken.imports,
        checked="check" in called,
        carries=sides_apart(tree),
    )


def _is_named_call(node: ast.AST) -> TypeGuard[Any]:
    return isinstance(node, ast.Call) and isinstance(node.func, ast.Name)


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
