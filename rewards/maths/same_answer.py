"""Equality of whole answers: lists, tuples, sets, matrices, equations, words and values."""

from __future__ import annotations

import itertools
import re
from collections.abc import Sequence

from rewards.maths import sets
from rewards.maths.chains import same_chain
from rewards.maths.constants import with_constants_renamed
from rewards.maths.equations import (
    Label,
    same_equation,
    solved,
    solves,
    split_label,
    with_arguments,
)
from rewards.maths.labels import differently_named, in_order, named_alike
from rewards.maths.scalars import is_scalar, same_value
from rewards.maths.tree import (
    Node,
    TooComplex,
    Undefined,
    Unparsable,
    bare,
    renamed,
    symbols,
    walk,
)
from rewards.maths.vectors import in_unit_vectors, multiplied_out, size_of

MAX_ITEMS = 60
PARAMETERS = {"t", "s", "u", "k", "r", "lambda", "mu"}
"""Letters that may stand for one another where they are the only one of a point or vector."""
NATURAL = ({"mathbb_N", "mathbb_Z^+"}, {"mathbb_N", "mathbb_N_0"})
"""Whether 0 is a natural number is a matter of the book."""
_EVERY = re.compile(r"\b(?:every|each|any)\b")
_ARTICLES = re.compile(r"\b(?:the|a|an)\b")


def same_answer(gold: Node, answer: Node) -> str | None:
    """The rule by which `answer` is equal to `gold`, or None when it is not.

    Raises:
        TooComplex: when deciding would take too long.
        Unparsable, Undefined: when something that should be a value has none.
    """
    gold, answer = _opened(_points(gold)), _opened(_points(answer))
    gold, answer = _unnamed(gold, answer), _unnamed(answer, gold)
    gold, answer = _spread(gold), _spread(answer)
    answer = _parameter_renamed(gold, answer)
    if sets.is_set_like(gold) or sets.is_set_like(answer):
        rule = _same_set(gold, answer)
        if rule:
            return rule
    if _is_list(gold) or _is_list(answer):
        return same_chain(gold, answer) or _same_list(gold, answer)
    gold_label, gold_value = split_label(gold)
    answer_label, answer_value = split_label(answer)
    if gold_value is not gold or answer_value is not answer:
        rule = None
        if gold_label is not None and answer_label is not None:
            adapted = with_arguments(answer_value, answer_label, gold_label)
            rule = None if adapted is None else same_answer(gold_value, adapted)
            if rule is None and adapted is not None:
                rule = _constants_renamed(gold_value, adapted, gold_label)
        else:
            rule = same_answer(gold_value, answer_value)
        if rule:
            return rule
    if gold.kind == "relation" and not (gold_label and bare(gold.args[0]).kind == "multiply"):
        return _same_relation(gold, answer)
    return _same_shape(gold, answer)


def _constants_renamed(gold: Node, answer: Node, label: Label | None) -> str | None:
    """Equality of values whose constants of integration have other names."""
    if not (is_scalar(gold) and is_scalar(answer)):
        return None
    variables = None
    if label is not None and (label.arguments or label.name == "y"):
        variables = frozenset(label.arguments or ("x", "t"))
    other = with_constants_renamed(gold, answer, variables=variables)
    return "equal with the constants renamed" if other is not None else None


def _points(node: Node) -> Node:
    """A list of points without ``(x, y) =`` before any of them."""
    if node.kind not in ("list", "set"):
        return node
    return Node(node.kind, tuple(_point(bare(arg)) for arg in node.args), node.name)


def _point(node: Node) -> Node:
    if node.kind != "relation" or node.name != "=":
        return node
    left, right = bare(node.args[0]), bare(node.args[1])
    if left.kind != "tuple" or right.kind != "tuple" or len(left.args) != len(right.args):
        return node
    names = [part.name for part in left.args]
    in_order = all(part.kind == "symbol" for part in left.args) and names == sorted(set(names))
    return right if in_order else node


def _unnamed(node: Node, other: Node) -> Node:
    """The point of ``P(1, 2)`` or ``P = (1, 2)``, where the other answer is a point."""
    if other.kind == "tuple" and node.kind == "multiply" and node.args[1].kind == "tuple":
        name = node.args[0]
        if name.kind == "symbol" and name.name[:1].isupper() and len(name.name) == 1:
            return node.args[1]
    return node


def _spread(node: Node) -> Node:
    """``x != 1, 2`` as ``x != 1, x != 2``."""
    first = bare(node.args[0]) if node.kind == "list" and len(node.args) > 1 else node
    if first.kind != "relation" or first.name != "!=" or bare(first.args[0]).kind != "symbol":
        return node
    rest = [bare(arg) for arg in node.args[1:]]
    if first is node or not all(is_scalar(arg) and not symbols(arg) for arg in rest):
        return node
    left = first.args[0]
    return Node("list", (first, *(Node("relation", (left, arg), "!=") for arg in rest)), "and")


def _parameter_renamed(gold: Node, answer: Node) -> Node:
    """A line's points with the gold's letter for their one parameter."""
    if gold.kind not in ("tuple", "matrix") or answer.kind not in ("tuple", "matrix"):
        return answer
    ours, theirs = symbols(gold), symbols(answer)
    if len(ours) == len(theirs) == 1 and ours != theirs and ours | theirs <= PARAMETERS:
        return renamed(answer, dict(zip(theirs, ours, strict=True)))
    return answer


def _opened(node: Node) -> Node:
    """Without outer parentheses; ``(x, y) = (1, 2)`` as two equations; plus-minus written out."""
    node = bare(node)
    if node.kind == "relation" and node.name == "=":
        left, right = bare(node.args[0]), bare(node.args[1])
        if left.kind == right.kind == "tuple" and len(left.args) == len(right.args):
            pairs = zip(left.args, right.args, strict=True)
            return Node("list", tuple(Node("relation", pair, "=") for pair in pairs))
    signs = [part for part in walk(node) if part.kind == "plus_minus"]
    if not signs or node.kind in ("list", "set"):
        return node
    return Node("list", tuple(_written_out(node)))


def _written_out(node: Node) -> list[Node]:
    """Every reading of the plus-minus signs: together in a value, apart in a tuple's entries."""
    if node.kind == "tuple":
        choices = itertools.product(*(_written_out(arg) for arg in node.args))
        readings = [
            Node("tuple", choice, node.name) for choice in itertools.islice(choices, MAX_ITEMS)
        ]
    elif any(part.kind == "plus_minus" for part in walk(node)):
        readings = [_signed(node, upper=True), _signed(node, upper=False)]
    else:
        readings = [node]
    return readings


def _signed(node: Node, *, upper: bool) -> Node:
    args = tuple(_signed(arg, upper=upper) for arg in node.args)
    if node.kind != "plus_minus":
        return Node(node.kind, args, node.name, node.number)
    last = args[-1] if (node.name == "+") == upper else Node("negate", (args[-1],))
    return last if len(args) == 1 else Node("add", (args[0], last))


def _is_list(node: Node) -> bool:
    return node.kind in ("list", "set")


def _same_set(gold: Node, answer: Node) -> str | None:
    if not (sets.is_interval(gold) or gold.kind == "set"):
        gold = split_label(gold)[1]
    if not (sets.is_interval(answer) or answer.kind == "set"):
        answer = split_label(answer)[1]
    try:
        same = sets.same(sets.pieces(gold), sets.pieces(answer))
    except (Unparsable, Undefined):
        return None
    return "the same set of numbers" if same else None


def _items(node: Node) -> list[Node]:
    """The entries of a list, set or tuple, each with its own plus-minus written out."""
    if node.kind not in ("list", "set", "tuple"):
        return [node]
    items = [item for arg in node.args for item in _entries(arg)]
    if len(items) > MAX_ITEMS:
        raise TooComplex(f"more than {MAX_ITEMS} answers")
    return items


def _entries(node: Node) -> list[Node]:
    opened = _opened(node)
    return list(opened.args) if opened.kind == "list" else [opened]


def _same_list(gold: Node, answer: Node) -> str | None:
    """Order matters only where one side is a tuple; labels only where both sides have them."""
    gold, answer = _as_list(gold), _as_list(answer)
    if {gold.kind, answer.kind} == {"set", "tuple"} and len(gold.args) > 1:
        return None
    for one, other in ((gold, answer), (answer, gold)):
        if _is_list(one) and len(one.args) == 1 and other.kind == "tuple":
            return same_answer(one.args[0], other)
    ours, theirs = _items(gold), _items(answer)
    if {gold.kind, answer.kind} == {"list", "tuple"}:
        ours, theirs = in_order(ours), in_order(theirs)
    if gold.name != "or" and answer.name == "or" and any(item.kind == "words" for item in ours):
        return None  # one of two people
    if {gold.name, answer.name} == {"and", "or"} and all(map(_compares, ours)):
        return None
    in_words = named_alike(ours, theirs)
    if in_words is not None:
        alike = all(_quietly_same(*pair) for pair in zip(*in_words, strict=True))
        return "equal by their names" if alike else None
    ordered = differently_named(ours, theirs)
    if not (_labelled(ours) and _labelled(theirs)) or _one_unknown([*ours, *theirs]):
        ours, theirs = _unlabelled(ours), _unlabelled(theirs)
    if gold.kind == "set" or answer.kind == "set":
        ours, theirs = _distinct(ours), _distinct(theirs)
    if len(ours) != len(theirs):
        return None
    if gold.kind == "tuple" or answer.kind == "tuple" or ordered:
        if all(same_answer(*pair) for pair in zip(ours, theirs, strict=True)):
            return "equal entries in order"
        return None
    if not ours:
        return "both empty"
    return "the same answers in any order" if _matched(ours, theirs) else None


def _compares(node: Node) -> bool:
    return node.kind == "relation" and node.name in ("<", "<=", ">", ">=")


def _as_list(node: Node) -> Node:
    """``x in {1, 2}`` and ``{x | x = 1 or x = 2}`` as their members."""
    if node.kind == "such_that":
        return bare(node.args[1])
    if node.kind == "relation":
        _, value = split_label(node)
        return value if value.kind in ("set", "list", "tuple") else node
    return node


def _labelled(items: Sequence[Node]) -> bool:
    """Whether more than the first item is labelled: ``n = 2, 3, 4`` has one label for all."""
    return any(split_label(item)[0] is not None for item in items[1:] or items)


def _one_unknown(items: Sequence[Node]) -> bool:
    """Whether all labels are one letter, with or without a number: x = 1, x_2 = 3."""
    names = {label.name for item in items if (label := split_label(item)[0]) is not None}
    return len({re.sub(r"_\d+$", "", name) for name in names}) == 1 and len(names) > 1


def _unlabelled(items: Sequence[Node]) -> list[Node]:
    return [split_label(item)[1] for item in items]


def _distinct(items: Sequence[Node]) -> list[Node]:
    distinct: list[Node] = []
    for item in items:
        if not any(_quietly_same(item, other) for other in distinct):
            distinct.append(item)
    return distinct


def _matched(ours: Sequence[Node], theirs: Sequence[Node]) -> bool:
    rest = list(theirs)
    for item in ours:
        match = next((other for other in rest if _quietly_same(item, other)), None)
        if match is None:
            return False
        rest.remove(match)
    return True


def _quietly_same(one: Node, two: Node) -> bool:
    try:
        return same_answer(one, two) is not None
    except (Unparsable, Undefined):
        return False


def _same_relation(gold: Node, answer: Node) -> str | None:
    if answer.kind != "relation":
        if gold.name == "=" and is_scalar(answer):
            return solves(gold, answer)
        return None
    if gold.name == "=" == answer.name:
        return None if solved(gold) and not solved(answer) else same_equation(gold, answer)
    for candidate in (answer, _reversed(answer)):
        if gold.name == candidate.name and len(gold.args) == len(candidate.args):
            pairs = zip(gold.args, candidate.args, strict=True)
            if all(_quietly_same(*pair) for pair in pairs):
                return "the same relation, term by term"
    return None


def _reversed(node: Node) -> Node:
    turned = {"<": ">", "<=": ">=", ">": "<", ">=": "<="}
    names = [turned.get(name, name) for name in reversed(node.name.split())]
    return Node("relation", node.args[::-1], " ".join(names))


def _same_shape(gold: Node, answer: Node) -> str | None:
    if {gold.name, answer.name} in NATURAL and gold.kind == answer.kind == "symbol":
        return "names of one set"
    if is_scalar(gold) and is_scalar(answer):
        return same_value(gold, answer) or _constants_renamed(gold, answer, None)
    answer = _vector(answer, gold)
    gold = _vector(gold, answer)
    answer = _vector(answer, gold)
    if gold.kind != answer.kind:
        return None
    match gold.kind:
        case "words":
            same = _wording(gold.name) == _wording(answer.name)
            return "the same words" if same else None
        case "tuple":
            if gold.name != answer.name and len(gold.args) == 2:  # ends of an interval count
                return None
            return _pairwise(gold, answer)
        case "matrix" | "row":
            return _pairwise(gold, answer)
        case "such_that":
            return _pairwise(gold, answer)
        case "unevaluated":
            return None
    return None


def _vector(node: Node, other: Node) -> Node:
    """A matrix of one row or one column as a tuple, where the other answer is a tuple.

    Where the other is a matrix, rows in brackets are one: ``[[1, 2], [3, 4]]``.
    """
    node = multiplied_out(node)
    if is_scalar(node):
        return in_unit_vectors(node, size_of(other)) or node
    rows = node.args if other.kind == "matrix" and (node.kind, node.name) == ("tuple", "[]") else ()
    if rows and all((row.kind, row.name) == ("tuple", "[]") for row in rows):
        return Node("matrix", tuple(Node("row", row.args) for row in rows))
    if node.kind != "matrix" or other.kind != "tuple":
        return node
    if len(node.args) == 1:
        return Node("tuple", node.args[0].args, other.name)
    if all(len(row.args) == 1 for row in node.args):
        return Node("tuple", tuple(row.args[0] for row in node.args), other.name)
    return node


def _pairwise(gold: Node, answer: Node) -> str | None:
    if len(gold.args) != len(answer.args):
        return None
    for one, two in zip(gold.args, answer.args, strict=True):
        if same_answer(one, two) is None:
            return None
    return "equal entries in order"


def _wording(text: str) -> str:
    words = _ARTICLES.sub(" ", _EVERY.sub("all", text)).replace("-", " ").split()
    return " ".join(word.removesuffix("s") if len(word) > 3 else word for word in words)
