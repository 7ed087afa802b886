"""Recurrences whose index is shifted or another letter: ``a_{k+1} = 2a_k``, ``a_n = 2a_{n-1}``."""

from __future__ import annotations

import re
from fractions import Fraction

from rewards.maths.tree import Node, bare, symbols

_INDEXED = re.compile(r"([A-Za-z]+)_([a-z])(?:([-+])(\d{1,3}))?")
INDEX = "n"


def has_shift(node: Node) -> bool:
    """Whether a relation holds a symbol whose index is a letter and a number, as ``a_{n+1}``."""
    return any(match[3] for name in symbols(node) if (match := _INDEXED.fullmatch(name)))


def normal(node: Node) -> Node:
    """The recurrence, or a list that holds some, with the index n and ``a_n`` as the last term."""
    node = bare(node)
    if node.kind in ("list", "set"):
        return Node(node.kind, tuple(map(normal, node.args)), node.name)
    if node.kind != "relation":
        return node
    parts = [match for name in symbols(node) if (match := _INDEXED.fullmatch(name))]
    letters = {match[2] for match in parts}
    if len(letters) != 1 or not any(match[3] for match in parts):
        return node
    return _shifted(node, letters.pop(), max(map(_offset, parts)))


def _offset(match: re.Match[str]) -> int:
    return int(f"{match[3]}{match[4]}") if match[3] else 0


def _shifted(node: Node, letter: str, last: int) -> Node:
    if node.kind == "symbol":
        match = _INDEXED.fullmatch(node.name)
        if match and match[2] == letter:
            return Node("symbol", name=f"{match[1]}_{INDEX}{_offset(match) - last:+d}")
        if node.name == letter:
            less = Node("number", number=Fraction(-last))
            return Node("add", (Node("symbol", name=INDEX), less))
    args = tuple(_shifted(arg, letter, last) for arg in node.args)
    return Node(node.kind, args, node.name, node.number)
