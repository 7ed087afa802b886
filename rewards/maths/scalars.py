"""Equality of single values: numbers, expressions, percentages, quantities, angles, bases.

Stated rules:

* Exact values are compared exactly; ``0.50``, ``1/2`` and ``50\\%`` are one value.
* A decimal prediction stands for an exact gold when it is the gold rounded or cut off there and has
  at least six significant digits; or four with two decimals, where the gold is a fraction over ten
  that does not end: ``85.71`` for ``600/7``, but not ``0.3333`` for ``1/3``.
* Where the gold is a decimal of at least three significant digits, an exact prediction whose
  expansion does not end (a root, a third) is right when it rounds, or cuts off, to the gold. A
  decimal is never rounded to a decimal: 3.1416 is not 3.14.
* A missing unit is forgiven, a different one is not; ``1\\text{ m}`` is ``100\\text{ cm}``.
* A number without a degree sign is read in degrees where the other has one, unless it holds pi.
* A number without a base is read in the other's base, digit by digit.
"""

from __future__ import annotations

import re
from collections.abc import Set
from dataclasses import dataclass
from fractions import Fraction

from rewards.maths import values
from rewards.maths.exact import exact
from rewards.maths.tree import Node, bare, renamed, symbols, walk
from rewards.maths.units import measure

PREDICTED_DIGITS = 6
FRACTION_DIGITS, LARGE = 4, 10
GOLD_DIGITS = 3
CHANGING = {
    "plus", "minus", "times", "over", "squared", "cubed", "factorial", "score", "scores", "gross",
    "doubled", "tripled", "quadrupled", "halved", "multiplied", "divided", "increased", "decreased",
    "raised", "reduced", "mod", "modulo", "remainder", "negated", "inverted", "below",
    "half", "halves", "quarter", "quarters", "third", "thirds", "fourth", "fourths", "fifth",
    "fifths", "sixth", "sixths",
    "seventh", "sevenths", "eighth", "eighths", "ninth", "ninths", "tenth", "tenths",
    "hundredth", "hundredths", "thousandth", "thousandths",
}  # fmt: skip
"""Words that make another number of the one before them."""
DENYING = {"wrong", "incorrect", "false", "not", "maybe", "perhaps", "unlikely"}
BOUNDS = {"at most", "at least", "or less", "or fewer", "than before", "below zero"}
STATING = {"is", "are", "was", "were"}
"""What begins a statement about a number, which is no unit."""
DOUBTING = {"isn", "does", "doesn", "cannot", "can", "seems", "would", "fails", "could", "might"}
AFFIRMING = {"correct", "right", "true", "answer", "solution", "answers", "solutions", "all", "it"}
PI = Node("constant", name="pi")
_SCALARS = {
    "number", "symbol", "constant", "add", "multiply", "negate", "divide", "power", "factorial",
    "percent", "degrees", "call", "based", "quantity", "ratio", "group", "plus_minus",
}  # fmt: skip


@dataclass(frozen=True)
class Decimal:
    """A decimal as written."""

    value: Fraction
    places: int
    digits: int
    """Significant digits."""


def is_scalar(node: Node) -> bool:
    """Whether the node is a single value."""
    return bare(node).kind in _SCALARS


def same_value(gold: Node, answer: Node) -> str | None:
    """The rule by which two values are equal, or None.

    Raises:
        TooComplex, Unparsable, Undefined: as :func:`rewards.maths.values.equal` does.
    """
    gold, answer = bare(gold), bare(answer)
    if _radians(gold) or _radians(answer):
        inner = [node.args[0] if _radians(node) else _measured(node) for node in (gold, answer)]
        if any(node.kind == "degrees" for node in inner):
            return "degrees and radians" if values.equal(*inner) else None
    gold, answer = _measured(gold), _measured(answer)
    if gold.kind == "quantity" or answer.kind == "quantity":
        return _same_quantity(gold, answer)
    if gold.kind == "based" or answer.kind == "based":
        return _same_digits(gold, answer)
    if gold.kind == "ratio" and answer.kind == "ratio":
        return _same_ratio(gold, answer)
    gold, answer = _quotient(gold), _quotient(answer)
    if (gold.kind == "degrees") != (answer.kind == "degrees"):
        return _same_angle(gold, answer)
    if values.equal(gold, answer):
        return "equal values"
    if symbols(gold) != symbols(answer):
        return _same_renamed(gold, answer)
    return None if symbols(gold) else _rounded(gold, answer)


def _measured(node: Node) -> Node:
    """Quantities in degrees or percent as such values."""
    if node.kind != "quantity":
        return node
    unit = re.sub(r"\W+", " ", node.name).strip()
    if unit in ("degree", "degrees"):
        return Node("degrees", node.args)
    if unit in ("percent", "per cent", "pct"):
        return Node("percent", node.args)
    return node


def _radians(node: Node) -> bool:
    if node.kind != "quantity":
        return False
    unit = re.sub(r"\W+", " ", node.name).strip()
    return unit in ("rad", "rads", "radian", "radians")


def _same_quantity(gold: Node, answer: Node) -> str | None:
    gold_inner = gold.args[0] if gold.kind == "quantity" else gold
    answer_inner = answer.args[0] if answer.kind == "quantity" else answer
    if gold.kind == answer.kind:
        one, two = measure(gold.name), measure(answer.name)
        if one is not None and two is None and not _speaks_of(answer.name, one[0]):
            return None  # 9 furlongs for 9 cm
        if two is not None and one is None and _counts(gold.name, two[0]):
            return None  # 9 kg for 9 apples
        if one is not None and two is not None:
            if one[0] != two[0]:
                return None
            if one[1] != two[1]:
                scaled = [_times(gold_inner, one[1]), _times(answer_inner, two[1])]
                return "equal in the same unit" if values.equal(*scaled) else None
    for one, other in ((gold, answer), (answer, gold)):
        if one.kind == "quantity" and _ends_in(other, one.name):  # 3 m, written as a product
            return same_value(one.args[0], other.args[0])
    if symbols(gold_inner) and _states(gold) and _wording(answer) != _wording(gold):
        return None  # n is prime
    if _changed(answer) and (not _changed(gold) or _wording(answer) != _wording(gold)):
        return None
    return same_value(gold_inner, answer_inner)


def _ends_in(node: Node, letter: str) -> bool:
    return node.kind == "multiply" and node.args[1] == Node("symbol", name=letter)


def _counts(unit: str, kind: str) -> bool:
    """Whether a word is a thing that is counted: neither "units" nor another unit of that kind."""
    plain = unit.isascii() and unit.replace(" ", "").isalpha()
    return plain and "unit" not in unit and not _speaks_of(unit, kind)


def _speaks_of(unit: str, kind: str) -> bool:
    """Whether a word among others is a unit of that kind: "cm long"."""
    basic = kind.partition("/")[0].partition("^")[0]
    measures = (measure(word) for word in re.findall(r"[a-z]+", unit.lower()))
    return any(one is not None and one[0] == basic for one in measures)


def _changed(node: Node) -> bool:
    """Whether words after a number make another one of it: 9 squared, 9 plus one, 9 thirds."""
    words = _wording(node) if node.kind == "quantity" else []
    if not words:
        return False
    denied = not set(words).isdisjoint(DENYING) or words[0] in DOUBTING
    if words[0] in STATING and set(words).isdisjoint(AFFIRMING):
        return True
    return denied or words[0] in CHANGING or " ".join(words[-2:]) in BOUNDS


def _states(node: Node) -> bool:
    return node.kind == "quantity" and not STATING.isdisjoint(_wording(node)[:1])


def _wording(node: Node) -> list[str]:
    return re.findall(r"[a-z]+", node.name.lower())


def _times(node: Node, size: Fraction) -> Node:
    return Node("multiply", (node, Node("number", number=size)))


def _same_digits(gold: Node, answer: Node) -> str | None:
    one, two = _digits(gold), _digits(answer)
    if one is None or two is None or one[0] != two[0]:
        return None
    bases = {base for _, base in (one, two) if base is not None}
    return "equal digits in one base" if len(bases) == 1 else None


def _digits(node: Node) -> tuple[str, int | None] | None:
    sign = ""
    while node.kind in ("negate", "group"):
        sign = "" if node.kind == "group" or sign else "-"
        node = node.args[0]
    if node.kind == "based":
        return sign + node.name, int(node.number or 0)
    if node.kind == "number" and node.number is not None:
        return sign + (node.name or str(node.number)), None
    return None


def _same_ratio(gold: Node, answer: Node) -> str | None:
    if len(gold.args) != len(answer.args):
        return None
    first, *rest = zip(gold.args, answer.args, strict=True)
    same = all(
        values.equal(Node("multiply", (first[0], other[1])), Node("multiply", (other[0], first[1])))
        for other in rest
    )
    return "proportional" if same else None


def _quotient(node: Node) -> Node:
    if node.kind == "ratio" and len(node.args) == 2:
        return Node("divide", node.args)
    return node


def _same_angle(gold: Node, answer: Node) -> str | None:
    degrees, other = (gold, answer) if gold.kind == "degrees" else (answer, gold)
    if any(part == PI for part in walk(other)):
        return "degrees as radians" if values.equal(degrees, other) else None
    return "degrees" if values.equal(degrees.args[0], other) else None


def _same_renamed(gold: Node, answer: Node) -> str | None:
    """Letters in the other case, or another letter for the integer that counts turns of pi."""
    ours, theirs = symbols(gold), symbols(answer)
    folded = {name: name.lower() for name in ours | theirs}
    if len(ours) == len(theirs) == len(set(folded.values())) and values.equal(
        renamed(gold, folded), renamed(answer, folded)
    ):
        return "equal but for upper and lower case"
    if len(ours) == len(theirs) > 1 and {*(ours ^ theirs)} == {"C", "K"}:
        return _equal_renamed(gold, answer, theirs - ours, ours - theirs, "constant")
    counters = {"k", "n", "m", "l"}
    counted = ours <= counters and theirs <= counters and len(ours) == len(theirs) == 1
    if counted and any(part == PI for part in walk(gold)):
        return _equal_renamed(gold, answer, theirs, ours, "counting letter")
    return None


def _equal_renamed(gold: Node, answer: Node, old: Set[str], new: Set[str], what: str) -> str | None:
    names = dict(zip(old, new, strict=True))
    same = values.equal(gold, renamed(answer, names))
    return f"equal with the {what} renamed" if same else None


def _rounded(gold: Node, answer: Node) -> str | None:
    written, predicted = decimal(gold), decimal(answer)
    if predicted is not None and written is None:
        enough = predicted.digits >= PREDICTED_DIGITS or (
            predicted.digits >= FRACTION_DIGITS
            and predicted.places > 1
            and abs(predicted.value) >= LARGE
            and exact(_of_percent(gold)) is not None
            and not _ends(gold)
        )
        if enough and values.rounds_to(gold, predicted.value, places=predicted.places):
            return f"the gold to {predicted.digits} significant digits"
    if written is not None and predicted is None and written.digits >= GOLD_DIGITS:
        unending = written.places > 0 and not _ends(answer)
        if unending and values.rounds_to(answer, written.value, places=written.places):
            return "rounds to the gold"
    return None


def decimal(node: Node) -> Decimal | None:
    """The node as a decimal as written, signs and percent included, or None."""
    sign, shift = 1, 0
    while node.kind in ("negate", "percent", "group"):
        sign = -sign if node.kind == "negate" else sign
        shift += 2 * (node.kind == "percent")
        node = node.args[0]
    if node.kind != "number" or "." not in node.name or node.number is None:
        return None
    digits = re.sub(r"[eE].*", "", node.name).replace(".", "").lstrip("0")
    places = len(re.sub(r"[eE].*", "", node.name).partition(".")[2]) + shift
    exponent = re.search(r"[eE](.*)", node.name)
    places -= int(exponent[1]) if exponent else 0
    value = sign * node.number / 10**shift
    return Decimal(value, max(places, 0), len(digits))


def _of_percent(node: Node) -> Node:
    return node.args[0] if node.kind == "percent" else node


def _ends(node: Node) -> bool:
    """Whether the value is known to have a decimal expansion that ends."""
    value = exact(_of_percent(node))
    if value is None:
        return False
    rest = value.denominator
    for prime in (2, 5):
        while rest % prime == 0:
            rest //= prime
    return rest == 1
