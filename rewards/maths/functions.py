"""Values of functions that nobody defined: ``f(0)`` is one, and no product of f and 0."""

from __future__ import annotations

from rewards.maths.exact import exact
from rewards.maths.tree import Node, symbols, walk

FUNCTION_NAMES = frozenset("fghFGHPQ")
"""Letters that name functions where a number in parentheses follows them."""


def has_values(node: Node) -> bool:
    """Whether the tree holds a function's value."""
    return any(_split(part) is not None for part in walk(node))


def with_values(node: Node) -> Node:
    """The tree with one symbol in place of ``f(2)``, the same for ``f(1 + 1)``."""
    parts = _split(node)
    if parts is None:
        return Node(node.kind, tuple(map(with_values, node.args)), node.name, node.number)
    factor, name, argument = parts
    value = exact(argument)
    symbol = Node("symbol", name=f"{name} at {argument if value is None else value}")
    return symbol if factor is None else Node("multiply", (with_values(factor), symbol))


def _split(node: Node) -> tuple[Node | None, str, Node] | None:
    """What stands before a function's value, its name and its argument; None for anything else."""
    if node.kind != "multiply" or len(node.args) != 2 or node.args[1].kind != "group":
        return None
    before, argument = node.args[0], node.args[1].args[0]
    factor, name = (
        (before.args[0], before.args[-1]) if before.kind == "multiply" else (None, before)
    )
    if name.kind != "symbol" or name.name not in FUNCTION_NAMES or symbols(argument):
        return None
    return factor, name.name, argument
