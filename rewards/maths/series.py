"""Sums and products over an index as answers, and lists and sums with an ellipsis."""

from __future__ import annotations

from fractions import Fraction

from rewards.maths import values
from rewards.maths.same_answer import same_answer
from rewards.maths.tree import Node, TooComplex, Undefined, Unparsable, bare, renamed, walk

MAX_SERIES = 8


def named_alike(gold: Node, answer: Node) -> tuple[Node, Node] | None:
    """Both trees with each sum or product over an index as a symbol, equal ones as the same.

    None where the answer has an operation that is not in the gold, or one of another sort.
    """
    kinds = [part for part in walk(gold) if part.kind == "unevaluated"]
    others = [part for part in walk(answer) if part.kind == "unevaluated"]
    if not kinds or not all(part.args for part in [*kinds, *others]):
        return None
    if len(kinds) + len(others) > MAX_SERIES:
        raise TooComplex(f"more than {MAX_SERIES} sums")
    names: dict[Node, Node] = {}
    for part in kinds:
        _name(part, names)
    of_the_gold = set(names.values())
    for part in others:
        _name(part, names)
    if set(names.values()) != of_the_gold:
        return None
    return _replaced(gold, names), _replaced(answer, names)


def _name(part: Node, names: dict[Node, Node]) -> None:
    symbol = next((names[other] for other in names if _same_series(other, part)), None)
    names[part] = symbol or Node("symbol", name=f"series {len(names)}")


def _replaced(node: Node, table: dict[Node, Node]) -> Node:
    if node in table:
        return table[node]
    args = tuple(_replaced(arg, table) for arg in node.args)
    return Node(node.kind, args, node.name, node.number)


def _same_series(one: Node, two: Node) -> bool:
    """Whether two series have equal bounds and equal terms when their indices have one name."""
    if one == two:
        return True
    if one.name != two.name or len(one.args) != len(two.args) or len(one.args) < 2:
        return False
    ours, theirs = _index(one), _index(two)
    if ours is None or theirs is None:
        return False
    one, two = _indexed(one, ours), renamed(_indexed(two, theirs), {theirs: ours})
    pairs = list(zip(one.args, two.args, strict=True))
    try:
        first = values.equal(pairs[0][0].args[1], pairs[0][1].args[1])
        return first and all(values.equal(bare(a), bare(b)) for a, b in pairs[1:])
    except (Unparsable, Undefined):
        return False


def _index(node: Node) -> str | None:
    low = bare(node.args[0])
    if low.kind == "relation" and low.name == "=":
        index = low.args[0]
        if index.kind == "symbol" or index == Node("constant", name="i"):
            return index.name
    return None


def _indexed(node: Node, index: str) -> Node:
    """The tree with the imaginary unit as a symbol, where that letter is the index."""
    if node == Node("constant", name=index):
        return Node("symbol", name=index)
    args = tuple(_indexed(arg, index) for arg in node.args)
    return Node(node.kind, args, node.name, node.number)


def elided(node: Node) -> bool:
    """Whether the answer has an ellipsis."""
    return any(part.kind == "dots" for part in walk(node))


def same_elided(gold: Node, answer: Node) -> str | None:
    """Equality term by term, in order, where both have their dots in the same place."""
    return "the same terms around the dots" if _alike(gold, answer) else None


def _alike(gold: Node, answer: Node) -> bool:
    gold, answer = bare(gold), bare(answer)
    if gold.kind == "dots" or answer.kind == "dots":
        return gold.kind == answer.kind
    if not elided(gold) and not elided(answer):
        return same_answer(gold, answer) is not None
    kinds = {gold.kind, answer.kind}
    if len(kinds) > 1 and kinds != {"list", "set"} and kinds != {"list", "tuple"}:
        return False
    ours, theirs = _terms(gold), _terms(answer)
    if gold.kind in ("list", "set", "tuple", "add"):
        ours, theirs = _as_long(ours, theirs)
    if len(ours) != len(theirs) or gold.number != answer.number:
        return False
    if len(kinds) == 1 and gold.name != answer.name and gold.kind != "list":
        return False
    return all(_alike(*pair) for pair in zip(ours, theirs, strict=True))


def _terms(node: Node) -> list[Node]:
    """The arguments; of a product all factors."""
    if node.kind != "multiply":
        return list(node.args)
    return [
        factor for arg in node.args for factor in (_terms(arg) if arg.kind == "multiply" else [arg])
    ]


def _as_long(ours: list[Node], theirs: list[Node]) -> tuple[list[Node], list[Node]]:
    """Both with as many terms before the dots, where the shorter goes on in equal steps."""
    places = [[bare(term).kind for term in terms] for terms in (ours, theirs)]
    if any(kinds_.count("dots") != 1 for kinds_ in places):
        return ours, theirs
    mine, yours = (kinds_.index("dots") for kinds_ in places)
    if not 2 <= min(mine, yours) < max(mine, yours) <= MAX_SERIES:
        return ours, theirs
    if mine > yours:
        return ours, _continued(theirs, yours, mine)
    return _continued(ours, mine, yours), theirs


def _continued(terms: list[Node], before: int, wanted: int) -> list[Node]:
    last, step = terms[before - 1], _less(terms[before - 1], terms[before - 2])
    more = [
        Node("add", (last, Node("multiply", (Node("number", number=Fraction(n)), step))))
        for n in range(1, wanted - before + 1)
    ]
    return [*terms[:before], *more, *terms[before:]]


def _less(one: Node, two: Node) -> Node:
    return Node("add", (one, Node("negate", (two,))))
