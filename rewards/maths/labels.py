"""Labels of several values: letters that have an order, and words such as mean and median."""

from __future__ import annotations

from collections.abc import Sequence

from rewards.maths.tree import Node, bare

_ALPHABET = "abcdefghijklmnopqrstuvwxyz"


def in_order(items: Sequence[Node]) -> list[Node]:
    """``y = 4, x = 3`` with x first; anything but neighbouring letters as it is."""
    letters = [_letter(item) for item in items]
    if len(items) > 1 and "".join(sorted(letters)).lower() in _ALPHABET and all(letters):
        return [item for _, item in sorted(zip(letters, items, strict=True), key=lambda p: p[0])]
    return list(items)


def _letter(item: Node) -> str:
    item = bare(item)
    if item.kind != "relation" or item.name != "=":
        return ""
    left = bare(item.args[0])
    return left.name if left.kind == "symbol" and len(left.name) == 1 else ""


def named_alike(
    ours: Sequence[Node], theirs: Sequence[Node]
) -> tuple[list[Node], list[Node]] | None:
    """Values of both in one order where each has a label in words, and both have the same ones."""
    one, two = _by_words(ours), _by_words(theirs)
    if len(one) < 2 or one.keys() != two.keys():
        return None
    return list(one.values()), [two[words] for words in one]


def differently_named(ours: Sequence[Node], theirs: Sequence[Node]) -> bool:
    """Whether one of two lists names each of its values in words, so that their order counts."""
    return max(len(_by_words(ours)), len(_by_words(theirs))) > 1


def _by_words(items: Sequence[Node]) -> dict[str, Node]:
    """Each value by its words; empty where some has none."""
    relations = [bare(item) for item in items]
    if any(item.kind != "relation" or item.name != "=" for item in relations):
        return {}
    words = [bare(item.args[0]) for item in relations]
    if any(label.kind != "words" for label in words):
        return {}
    values = {w.name: item.args[1] for w, item in zip(words, relations, strict=True)}
    return values if len(values) == len(items) else {}
