"""Chains of comparisons: ``a < b < c`` says what ``b > a, b < c`` does."""

from __future__ import annotations

from rewards.maths.tree import Node, bare

_UNKNOWNS = {Node("symbol", name=letter) for letter in "xyzt"}


def same_chain(gold: Node, answer: Node) -> str | None:
    """The rule by which a chain and a list of comparisons put neighbours in the same order.

    Of bounds for an unknown a comma may part alternatives (``x > a, x < b``), so "and" must.
    """
    names = {gold.name, answer.name}
    if {gold.kind, answer.kind} != {"list", "relation"} or "or" in names:
        return None
    ours, theirs = _comparisons(gold), _comparisons(answer)
    if not ours or ours != theirs:
        return None
    letters = {part for low, _, high in ours for part in (low, high)}
    if "and" not in names and not _UNKNOWNS.isdisjoint(letters):
        return None
    return "the same comparisons"


def _comparisons(node: Node) -> set[tuple[Node, str, Node]] | None:
    """Pairs that a chain, or a list of comparisons, puts in order, the smaller first."""
    pairs: set[tuple[Node, str, Node]] = set()
    for item in node.args if node.kind == "list" else (node,):
        relation = bare(item)
        operators = relation.name.split()
        if relation.kind != "relation" or not set(operators) <= {"<", "<=", ">", ">="}:
            return None
        sides = zip(relation.args, operators, relation.args[1:], strict=False)
        for left, operator, right in sides:
            low, high = (left, right) if operator[0] == "<" else (right, left)
            pairs.add((bare(low), operator.replace(">", "<"), bare(high)))
    return pairs
