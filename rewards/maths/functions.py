"""Values of functions that nobody defined: ``f(0)`` is one, and no product of f and 0."""

from __future__ import annotations

import hashlib

from rewards.maths.exact import exact
from rewards.maths.normal import written
from rewards.maths.tree import Node, bare, symbols, walk

GREEK_NAMES = {"phi", "psi", "sigma", "tau", "zeta", "Gamma"}
FUNCTION_NAMES = frozenset("fghFGHPQpqTSuvy") | GREEK_NAMES
"""Letters that name functions where a number or one letter in parentheses follows them."""
CLOSED = frozenset("fghFGHPQ")
"""Those that do so before other closed values too: ``P(1/2)``, but ``v(1 + \\sqrt 2)``."""
ALWAYS = frozenset("fgFG")
"""Those that do so before a sum too, where ``P(1 + r)`` and ``h(a + b)`` are products."""


def has_values(node: Node) -> bool:
    """Whether the tree holds a function's value; ``f(x) =`` before one is a label."""
    named = ALWAYS | _labels(node)
    return any(part.kind == "multiply" and _split(part, named) for part in walk(_unlabelled(node)))


def with_values(node: Node, named: frozenset[str] = ALWAYS) -> Node:
    """The tree with one symbol in place of ``f(2)`` or ``f(x)``, the same for ``f(1 + 1)``.

    Letters that are `named`, or that a label names, are functions before any argument.
    """
    right = _unlabelled(node)
    if right is not node:
        named = named | _labels(node)
        return Node(node.kind, (*node.args[:-1], with_values(right, named)), node.name, node.number)
    parts = _split(node, named)
    if parts is None:
        args = tuple(with_values(arg, named) for arg in node.args)
        return Node(node.kind, args, node.name, node.number)
    factor, name, argument = parts
    number = exact(argument)
    text = written(with_values(argument, named)) if number is None else number
    symbol = Node("symbol", name=f"{name} at {_short(str(text))}")
    if node.args[1].kind == "power":
        symbol = Node("power", (symbol, with_values(node.args[1].args[1], named)))
    return symbol if factor is None else Node("multiply", (with_values(factor, named), symbol))


def _labels(node: Node) -> frozenset[str]:
    """The letter of a function that a label names: ``T(n) = 2T(n/2) + n``."""
    if node.kind != "relation" or node.name != "=":
        return frozenset()
    left = bare(node.args[0])
    parts = _split(left, ALWAYS) if _is_name(left) else None
    return frozenset((parts[1][:1],)) if parts else frozenset()


def _short(text: str) -> str:
    """The text, or a digest of a long one: calls in calls would double it at every level."""
    return text if len(text) < 60 else hashlib.sha256(text.encode()).hexdigest()


def _unlabelled(node: Node) -> Node:
    """The right side of ``f(x) = ...``; anything else as it is."""
    if node.kind != "relation" or node.name != "=":
        return node
    left = bare(node.args[0])
    names = left.args if left.kind == "tuple" else (left,)
    return node.args[1] if all(map(_is_name, names)) else node


def _is_name(node: Node) -> bool:
    """Whether the node is a function's name with its one letter, such as ``f(x)``."""
    parts = _split(bare(node), ALWAYS)
    return parts is not None and parts[0] is None and bare(parts[2]).kind == "symbol"


def _split(node: Node, named: frozenset[str]) -> tuple[Node | None, str, Node] | None:
    """What stands before a function's value, its name and its argument; None for anything else."""
    if node.kind != "multiply" or len(node.args) != 2:
        return None
    before, called = node.args
    called = called.args[0] if called.kind == "power" else called
    if called.kind != "group":
        return None
    argument = bare(called)
    factor, function = (
        (before.args[0], before.args[-1]) if before.kind == "multiply" else (None, before)
    )
    name = _name(function)
    letter = name if name in FUNCTION_NAMES else name[:1]
    if letter not in FUNCTION_NAMES and letter not in named:
        return None
    plain = argument.kind in ("symbol", "number")
    if plain or (letter in CLOSED and not symbols(argument)) or letter in named:
        return factor, name, argument
    return None


def _name(node: Node) -> str:
    """``f``, ``f'`` or ``f^-1``; empty for what names no function."""
    if node.kind == "symbol":
        alone = node.name in FUNCTION_NAMES or not node.name[1:].strip("'")
        return node.name if alone else ""
    if node.kind == "power" and node.args[0].kind == "symbol" and len(node.args[0].name) == 1:
        exponent = exact(node.args[1])
        return "" if exponent is None else f"{node.args[0].name}^{exponent}"
    return ""
