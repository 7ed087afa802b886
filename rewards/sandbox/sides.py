"""Whether the expected side of every check in test code is out of a program's reach.

``assert f(xs) == sum(xs)`` compares an answer with what the answer's argument holds afterwards: a
program that empties `xs` sets both. Where that occurs, changes in place stay with the program.
"""

from __future__ import annotations

import ast


def sides_apart(tree: ast.Module) -> bool:
    """Whether no comparison has arguments or results of calls on more than one side."""
    derived = _derived(tree)
    return all(
        sum(_mentions(side, derived) for side in sides) < 2
        for node in ast.walk(tree)
        for sides in [_sides(node)]
    )


def _sides(node: ast.AST) -> list[ast.expr]:
    match node:
        case ast.Compare(left=left, comparators=others):
            return [left, *others]
        case ast.Call(func=ast.Attribute(attr=name), args=args) if name.startswith("assert"):
            return args[:2]
        case ast.Call(func=ast.Name(id=name), args=args) if len(args) > 1:
            return args if name.startswith(("assert", "same", "equal", "is")) else []
    return []


def _derived(tree: ast.Module) -> set[str]:
    """Names that are handed to calls, and names that are given values that involve one of them."""
    names = {
        part.id
        for node in ast.walk(tree)
        if isinstance(node, ast.Call)
        for arg in [*node.args, *(keyword.value for keyword in node.keywords)]
        for part in ast.walk(arg)
        if isinstance(part, ast.Name)
    }
    size = -1
    while size != len(names):
        size = len(names)
        for node in ast.walk(tree):
            match node:
                case ast.Assign(value=value, targets=targets):
                    pass
                case (
                    ast.AugAssign(value=value, target=target)
                    | ast.NamedExpr(value=value, target=target)
                ):
                    targets = [target]
                case _:
                    continue
            if _mentions(value, names):
                parts = [part for target in targets for part in ast.walk(target)]
                names |= {part.id for part in parts if isinstance(part, ast.Name)}
    return names


def _mentions(side: ast.expr, names: set[str]) -> bool:
    """Whether an expression involves one of the names, or any call."""
    return any(
        isinstance(part, ast.Name) and part.id in names or isinstance(part, ast.Call)
        for part in ast.walk(side)
    )
