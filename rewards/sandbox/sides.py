"""Whether the expected side of every check in test code is out of a program's reach.

``assert f(xs) == sum(xs)`` compares an answer with what the answer's argument holds afterwards: a
program that empties `xs` sets both. Where that occurs, changes in place stay with the program.
"""

from __future__ import annotations

import ast
from collections.abc import Sequence


def sides_apart(tree: ast.Module) -> bool:
    """Whether no comparison has arguments or results of calls on more than one side."""
    parts = list(ast.walk(tree))
    compared = [sides for sides in map(_sides, parts) if len(sides) > 1]
    pairs = [
        [pair for side in sides if (pair := _inside(side)) != (set(), False)] for sides in compared
    ]
    if all(len(pair) < 2 for pair in pairs):
        return True
    derived = _derived(parts)
    return all(sum(calls or bool(names & derived) for names, calls in pair) < 2 for pair in pairs)


def _sides(node: ast.AST) -> list[ast.expr]:
    match node:
        case ast.Compare(left=left, comparators=others):
            return [left, *others]
        case ast.Call(func=ast.Attribute(attr=name), args=args) if name.startswith("assert"):
            return args[:2]
        case ast.Call(func=ast.Name(id=name), args=args) if len(args) > 1:
            return args if name.startswith(("assert", "same", "equal", "is")) else []
    return []


def _derived(parts: Sequence[ast.AST]) -> set[str]:
    """Names that are handed to calls, and names that are given values that involve one of them."""
    names = {
        name
        for node in parts
        if isinstance(node, ast.Call)
        for arg in [*node.args, *(keyword.value for keyword in node.keywords)]
        for name in _inside(arg)[0]
    }
    given = [_given(node) for node in parts if isinstance(node, _GIVING)]
    size = -1
    while size != len(names):
        size = len(names)
        for targets, values, calls in given:
            if calls or values & names:
                names |= targets
    return names


_GIVING = (ast.Assign, ast.AugAssign, ast.NamedExpr)


def _given(node: ast.Assign | ast.AugAssign | ast.NamedExpr) -> tuple[set[str], set[str], bool]:
    """(names that are given a value, names in the value, whether it has a call)."""
    targets = node.targets if isinstance(node, ast.Assign) else [node.target]
    return (set().union(*(_inside(target)[0] for target in targets)), *_inside(node.value))


def _inside(side: ast.AST) -> tuple[set[str], bool]:
    """The names in an expression, and whether it has a call."""
    parts = list(ast.walk(side))
    names = {part.id for part in parts if isinstance(part, ast.Name)}
    return names, any(isinstance(part, ast.Call) for part in parts)
