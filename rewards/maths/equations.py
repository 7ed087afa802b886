"""Whether two equations say the same, and labels such as ``x =`` or ``f(x) =`` before a value."""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction

from rewards.maths import values
from rewards.maths.tree import Node, TooComplex, Undefined, Unparsable, bare, renamed, symbols

ZERO, ONE, TWO = (Node("number", number=Fraction(number)) for number in (0, 1, 2))


@dataclass(frozen=True)
class Label:
    """What stands before the equals sign: a name, with its arguments if it is a function's."""

    name: str
    arguments: tuple[str, ...] = ()


def split_label(node: Node) -> tuple[Label | None, Node]:
    """A value and its label; no label when there is none, or words, which do not matter.

    ``x = 2 + 3 = 5`` has the value 5, and so has ``5 ~ 5.001``: what is only near does not count.
    """
    node = bare(node)
    if node.kind == "relation" and node.name == "in" and bare(node.args[0]).kind == "symbol":
        return None, bare(node.args[1])
    operators = node.name.split()
    if node.kind != "relation" or not set(operators) <= {"=", "~="}:
        return None, node
    _hold(node.args, operators)
    left = bare(node.args[0])
    right = bare(node.args[_last_exact(operators, labelled=bool(symbols(left)))])
    if left.kind == "words" or (left.kind == "quantity" and not symbols(right)):
        return None, right
    label = _label(left)
    if label is not None and label.name not in symbols(right):
        return label, right
    return None, right if not symbols(node) else node


def _hold(operands: tuple[Node, ...], operators: list[str]) -> None:
    """Refuse ``1 = 2``: of a chain of closed values each must be near the next.

    Near, as ``1/3 = 0.33`` is how people write; an approximation is the value to its own digits:
    ``2/3 \\approx 0.67``, but not ``700 \\approx 705``.

    Raises:
        Unparsable: when two are further apart: a hundredth, or a unit of the last digit.
    """
    for one, two, operator in zip(operands, operands[1:], operators, strict=False):
        if symbols(one) or symbols(two):
            continue
        try:
            first, second = values.real_value(bare(one)), values.real_value(bare(two))
        except (Unparsable, TooComplex, Undefined, OverflowError):
            continue
        if not _near(first, second, _last_unit(bare(two)) if operator == "~=" else 0.0):
            raise Unparsable("an equation that does not hold")


def _near(first: float, second: float, unit: float) -> bool:
    """Within a hundredth; with a unit, whether the second is the first rounded or cut to it."""
    if not unit:
        return abs(first - second) <= 0.01 * max(abs(first), abs(second))
    same_sign = first * second >= 0
    return same_sign and -0.500001 * unit <= abs(first) - abs(second) < 1.000001 * unit


def _last_unit(node: Node) -> float:
    """What one is worth in the last digit of a number as written, final zeros aside; else 0."""
    while node.kind in ("negate", "group", "quantity"):
        node = node.args[0]
    if node.kind != "number" or node.number is None:
        return 0.0
    if node.name:
        return 10.0 ** -len(node.name.partition(".")[2])
    digits = str(node.number)
    return 10.0 ** (len(digits) - len(digits.rstrip("0"))) if node.number else 1.0


def _last_exact(operators: list[str], *, labelled: bool) -> int:
    """Index of the operand before the first approximation, but not of the label itself."""
    if "~=" not in operators:
        return len(operators)
    return max(operators.index("~="), int(labelled))


def _label(left: Node) -> Label | None:
    if left.kind == "symbol":
        name, _, index = left.name.partition("_")
        if len(index) == 1 and index.isalpha():
            return Label(name, (index,))
        return Label(left.name)
    letters = _letters(left)
    if letters and (letters.isupper() or letters.startswith(("angle", "triangle"))):
        return Label(letters)  # a segment or an angle
    if left.kind == "multiply" and left.args[0].kind == "symbol":
        inner = left.args[1]
        parts = inner.args if inner.kind in ("tuple", "group") else ()
        if parts and all(part.kind == "symbol" for part in parts):
            return Label(left.args[0].name, tuple(part.name for part in parts))
    return None


def _letters(node: Node) -> str:
    """The letters that stand side by side in a product of symbols; empty for anything else."""
    if node.kind == "symbol":
        return node.name
    if node.kind != "multiply":
        return ""
    parts = [_letters(arg) for arg in node.args]
    return "".join(parts) if all(parts) else ""


def with_arguments(node: Node, label: Label, other: Label) -> Node | None:
    """`node` with the arguments of `label` called as in `other`; None when they do not match."""
    if (label.name == "y" and other.arguments) or (other.name == "y" and label.arguments):
        return node if len(label.arguments) + len(other.arguments) == 1 else None
    if label.name.lower() != other.name.lower():
        return None
    if len(label.arguments) != len(other.arguments):
        return None
    return renamed(node, dict(zip(label.arguments, other.arguments, strict=True)))


def solved(node: Node) -> bool:
    """Whether an equation says what one letter is: ``x = 7`` does, ``3x + 5 = 26`` asks it."""
    left, right = (bare(side) for side in (node.args[0], node.args[-1]))
    letters = left if left.kind == "symbol" else right
    closed = right if left.kind == "symbol" else left
    return letters.kind == "symbol" and not symbols(closed)


def same_equation(gold: Node, answer: Node) -> str | None:
    """The rule by which two equations are equivalent, or None."""
    one, two = _zero_form(gold), _zero_form(answer)
    names = symbols(one)
    if names != symbols(two) or not names or _vanishes(one) or _vanishes(two):
        return None
    if _proportional(one, two):
        return "one equation is a multiple of the other"
    for name in sorted(names)[:6]:
        try:
            ours, theirs = _root(one, name), _root(two, name)
        except Undefined:  # such as 1/x at zero
            continue
        if ours is not None and theirs is not None and not _vanishes(ours):
            same = values.equal(ours, theirs)
            return f"equal when solved for {name}" if same else None
    return None


def solves(gold: Node, answer: Node) -> str | None:
    """Whether `answer` is what a linear equation says of the one symbol that it does not hold."""
    one, given = _zero_form(gold), symbols(answer)
    missing = symbols(one) - given
    if len(missing) != 1 or not given or not given <= symbols(one):
        return None
    (name,) = missing
    root = _root(one, name)
    if root is not None and values.equal(root, answer):
        return f"the equation solved for {name}"
    return None


def _zero_form(node: Node) -> Node:
    return Node("add", (node.args[0], Node("negate", (node.args[1],))))


def _vanishes(node: Node) -> bool:
    return values.equal(node, ZERO)


def _proportional(one: Node, two: Node) -> bool:
    """e(p) d(q) = e(q) d(p) for all points p and q: the ratio is the same everywhere."""
    elsewhere = {name: f"{name}*" for name in symbols(one)}
    left = Node("multiply", (one, renamed(two, elsewhere)))
    return values.equal(left, Node("multiply", (renamed(one, elsewhere), two)))


def _root(zero_form: Node, name: str) -> Node | None:
    """The value of `name` that makes the form zero, when the form is linear in it."""
    at = [_substituted(zero_form, name, number) for number in (ZERO, ONE, TWO)]
    slope = Node("add", (at[1], Node("negate", (at[0],))))
    second = Node("add", (at[2], Node("negate", (at[1],))))
    if _vanishes(slope) or not values.equal(slope, second):
        return None
    return Node("negate", (Node("divide", (at[0], slope)),))


def _substituted(node: Node, name: str, replacement: Node) -> Node:
    if node.kind == "symbol":
        return replacement if node.name == name else node
    args = tuple(_substituted(arg, name, replacement) for arg in node.args)
    return Node(node.kind, args, node.name, node.number)
