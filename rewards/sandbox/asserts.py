"""Test code, read: as calls with their values where it is no more than that, else to be judged."""

from __future__ import annotations

import ast
import re
from collections.abc import Sequence
from functools import lru_cache
from typing import Any, TypeGuard

from rewards.sandbox.assertions import assertion
from rewards.sandbox.kinds import BadTests, Call, Judged, Tests
from rewards.sandbox.plain_tests import plain_calls
from rewards.sandbox.program_names import BUILTINS, program_names
from rewards.sandbox.sides import sides_apart

_FENCED = re.compile(r"```\w*[ \t]*\r?\n(?P<code>[^`]*)```")


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
        calls = plain_calls(tree.body, taken, lambda test: assertion(test, known=BUILTINS))
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
                call = assertion(test, known=set() if any_name else BUILTINS)
                if call is None:
                    return None
                calls.append(call)
            case ast.Expr(value=ast.Constant()) | ast.Pass() | ast.Assert(test=ast.Constant(True)):
                continue  # HumanEval's rows have an assertion of True here and there
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
