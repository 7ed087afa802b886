"""The syntax tree of an answer."""

from __future__ import annotations

from collections.abc import Iterator
from fractions import Fraction
from typing import NamedTuple


class Unparsable(ValueError):
    """The text is no mathematical answer that this parser reads."""


class TooComplex(ValueError):
    """The text is longer, deeper or larger than an answer has any need to be."""


class Undefined(ValueError):
    """The expression has no value at this point, or none that is real and finite."""


class Node(NamedTuple):
    """One node. What `args`, `name` and `number` hold depends on `kind`:

    ============= ======================================================================
    number        `number`; `name` is its text when it was written as a decimal
    symbol        `name`, with its index (``x_1``); words in formulas are symbols too
    constant      `name`: pi, e, i, infinity
    add multiply  `args`
    negate        one argument; so have factorial, percent, degrees and group (parentheses)
    divide power  two arguments
    plus_minus    one or two; `name` is ``+`` for upper signs first, ``-`` for lower
    call          `name` of a function and its arguments
    based         digits in `name`, base in `number`
    tuple         `args` between the brackets in `name`: ``()``, ``[]``, ``[)``, ``(]``
    set list      `args`; a list is what commas separate without brackets; its `name` is ``or``
                  where that word does, ``and`` where nothing but that word does
    such_that     `args`: head and condition of a set-builder
    relation      `args` are the operands, `name` the operators between them
    matrix row    `args`: rows, entries
    words         `name`: lower-case text
    quantity      one argument, unit in `name`
    ratio         `args`, two or more
    union, intersection, without: two arguments
    unevaluated   `name` of an operation that is left to be worked out; of a sum or product over an
                  index also its bounds and its term
    dots          an ellipsis
    ============= ======================================================================
    """

    kind: str
    args: tuple[Node, ...] = ()
    name: str = ""
    number: Fraction | None = None


def walk(node: Node) -> Iterator[Node]:
    """The node and everything below it."""
    waiting = [node]
    while waiting:
        current = waiting.pop()
        yield current
        waiting.extend(current.args)


def kinds(node: Node) -> set[str]:
    """The kinds of the node and of everything below it."""
    return {part.kind for part in walk(node)}


def symbols(node: Node) -> frozenset[str]:
    """Names of the symbols that occur."""
    return frozenset(part.name for part in walk(node) if part.kind == "symbol")


def bare(node: Node) -> Node:
    """The node without the parentheses around it."""
    while node.kind == "group" or (node.kind == "list" and len(node.args) == 1):
        node = node.args[0]
    return node


def renamed(node: Node, names: dict[str, str]) -> Node:
    """The tree with symbols renamed."""
    if node.kind == "symbol":
        return Node("symbol", name=names.get(node.name, node.name))
    args = tuple(renamed(arg, names) for arg in node.args)
    return Node(node.kind, args, node.name, node.number)
