"""Vectors and matrices that are written as multiples, or as sums of unit vectors."""

from __future__ import annotations

from fractions import Fraction

from rewards.maths import values
from rewards.maths.tree import Node, TooComplex, Undefined, Unparsable, bare, kinds, walk

I_ = Node("constant", name="i")
UNITS = (I_, Node("symbol", name="j"), Node("symbol", name="k"))
ZERO, ONE = (Node("number", number=Fraction(number)) for number in (0, 1))
_SUMS = {"add", "multiply", "negate", "group", "divide"}


def multiplied_out(node: Node) -> Node:
    """``\\frac12`` before a matrix, or a minus sign, put into each of its entries."""
    node = bare(node)
    if node.kind == "negate" and bare(node.args[0]).kind == "matrix":
        return _scaled(bare(node.args[0]), Node("negate", (ONE,)))
    if node.kind not in ("multiply", "divide"):
        return node
    left, right = (bare(arg) for arg in node.args)
    if node.kind == "divide" and left.kind == "matrix" and "matrix" not in kinds(right):
        return _scaled(left, Node("divide", (ONE, right)))
    if node.kind == "multiply" and right.kind == "matrix" and not kinds(left) & {"matrix", "tuple"}:
        return _scaled(right, left)
    return node


def _scaled(matrix: Node, factor: Node) -> Node:
    rows = (
        Node("row", tuple(Node("multiply", (factor, entry)) for entry in row.args))
        for row in matrix.args
    )
    return Node("matrix", tuple(rows))


def in_unit_vectors(node: Node, size: int) -> Node | None:
    """The entries of ``2i - 3j + k`` as a tuple of `size`; None where it is no such sum."""
    node = bare(node)
    if size not in (2, 3) or node.kind not in _SUMS:
        return None
    units = UNITS[:size]
    parts = {part for part in walk(node) if part in UNITS}
    if not parts <= set(units) or len(parts) < min(2, size):
        return None
    entries = [_with(node, {unit: ONE if unit == one else ZERO for unit in units}) for one in units]
    rest = _with(node, dict.fromkeys(units, ZERO))
    total = Node("add", tuple(Node("multiply", pair) for pair in zip(entries, units, strict=True)))
    plain = {unit: Node("symbol", name=f"unit {unit.name}") for unit in units}
    try:
        linear = values.equal(rest, ZERO) and values.equal(_with(node, plain), _with(total, plain))
    except (Unparsable, Undefined, TooComplex):
        return None
    return Node("tuple", tuple(entries), "()") if linear else None


def _with(node: Node, table: dict[Node, Node]) -> Node:
    if node in table:
        return table[node]
    args = tuple(_with(arg, table) for arg in node.args)
    return Node(node.kind, args, node.name, node.number)


def size_of(node: Node) -> int:
    """How many entries a tuple, row or column has; 0 for anything else."""
    if node.kind == "tuple":
        return len(node.args)
    if node.kind == "matrix":
        return len(node.args[0].args) if len(node.args) == 1 else len(node.args)
    return 0
