"""Comparison of two answers on their syntax trees."""

from __future__ import annotations

from rewards.maths.decision import Decision
from rewards.maths.equations import split_label
from rewards.maths.functions import has_values, with_values
from rewards.maths.parameters import with_one_letter
from rewards.maths.parser import parse
from rewards.maths.recurrences import has_shift, normal
from rewards.maths.same_answer import same_answer
from rewards.maths.scalars import is_scalar
from rewards.maths.second_opinion import by_math_verify
from rewards.maths.series import elided, named_alike, same_elided
from rewards.maths.tree import Node, TooComplex, Undefined, Unparsable, bare, kinds, walk

_TO_DO = {"unevaluated", "matrix"}
_NAMED = {"symbol", "words", "call"}


def by_tree(gold: str, answer: str, *, thousands: bool) -> Decision:
    """The decision on both texts, read with or without commas that group digits.

    What takes too long or nests too deeply is `too_complex`, never an error.
    """
    try:
        return _unguarded(gold, answer, thousands=thousands)
    except RecursionError:
        return Decision("too_complex", "nested too deeply")
    except MemoryError:  # of the worker's limit, so it says something about the answer
        return Decision("too_complex", "numbers too large")


def _unguarded(gold: str, answer: str, *, thousands: bool) -> Decision:
    try:
        gold_tree = parse(gold, thousands=thousands)
    except (TooComplex, Unparsable) as error:
        return Decision("unparsable", f"the gold is not read: {error}")
    try:
        answer_tree = parse(answer, thousands=thousands)
    except TooComplex as error:
        return Decision("too_complex", str(error))
    except Unparsable as error:
        reason = f"the answer is not read: {error}"
        if is_scalar(gold_tree):
            return by_math_verify(gold, answer, reason)
        return Decision("unparsable", reason)
    try:
        if has_values(gold_tree):
            gold_tree, answer_tree = with_values(gold_tree), with_values(answer_tree)
        if has_shift(gold_tree):
            gold_tree, answer_tree = normal(gold_tree), normal(answer_tree)
        ours = kinds(gold_tree)
        if "unevaluated" in ours:
            gold_tree, answer_tree = named_alike(gold_tree, answer_tree) or (gold_tree, answer_tree)
            ours = kinds(gold_tree)
        theirs = kinds(answer_tree)
        if "words" in theirs - ours or not ours & _NAMED:
            _check_factors(answer_tree)
        operation = _unevaluated(answer_tree) if theirs & _TO_DO else None
        if operation:
            return Decision("wrong", f"{operation} is left to be worked out")
        same = same_elided if "dots" in ours | theirs else same_answer
        rule = same(gold_tree, answer_tree)
    except TooComplex as error:
        return Decision("too_complex", str(error))
    except Undefined as error:
        return Decision("wrong", f"no value: {error}")
    except Unparsable as error:
        return Decision("wrong", f"not comparable: {error}")
    return Decision("correct", rule) if rule else Decision("wrong", "not equal by any rule")


def _check_factors(node: Node, *, factor: bool = False) -> bool:
    """Raise Unparsable for words that are a factor, and for letters beside a 0 that is one: `not 0`
    is no 0, whose value would be that of every product. Returns whether there are letters."""
    product = node.kind == "multiply"
    if factor and node.kind == "words":
        raise Unparsable(f"{node.name!r} is no number")
    letters = [_check_factors(arg, factor=factor or product) for arg in node.args]
    if product and any(letters) and any(_is_zero(bare(arg)) for arg in node.args):
        raise Unparsable("0 times letters is no way to write 0")
    return any(letters) or node.kind in _NAMED


def _is_zero(node: Node) -> bool:
    return node.kind == "number" and node.number == 0


def _unevaluated(tree: Node) -> str | None:
    """What an answer still asks its reader to compute; powers of matrices are that too."""
    for part in walk(tree):
        if part.kind == "unevaluated":
            return part.name.rstrip("_^")
        if part.kind == "power" and any(below.kind == "matrix" for below in walk(part)):
            return "a power of a matrix"
    return None


def by_parameter(gold: str, answer: str) -> Decision | None:
    """Correct when both declare a parameter and are equal but for its letter; else undecided."""
    trees = with_one_letter(gold, answer)
    if trees is None or _unevaluated(trees[1]) or any(map(elided, trees)):
        return None
    try:
        rule = same_answer(*trees)
    except (TooComplex, Unparsable, Undefined, RecursionError):
        return None
    return Decision("correct", f"{rule}, with the parameter renamed") if rule else None


def read_two_ways(text: str) -> bool:
    """Whether commas in it may group digits or part a list: ``1,234``, but not ``(1,234)``."""
    try:
        return parse(text, thousands=True) != parse(text, thousands=False)
    except (TooComplex, Unparsable, RecursionError):
        return True


def is_calculation(answer: str) -> bool:
    """Whether the value of an answer is a sum, product, power or function of numbers."""
    try:
        _, value = split_label(parse(answer))
    except (TooComplex, Unparsable, RecursionError):
        return False
    done = {"add", "multiply", "power", "factorial", "call", "plus_minus"}
    return any(part.kind in done for part in walk(value) if part not in _notation(value))


def _notation(tree: Node) -> list[Node]:
    """Mixed numbers and powers of ten, which are ways to write one number."""
    parts: list[Node] = []
    for part in walk(tree):
        match part:
            case Node("group", (Node("add", (Node("number"), Node("divide"))) as mixed,)):
                parts.append(mixed)
            case Node("multiply", (Node("number"), Node("power", (Node("number", (), _, b), _)))):
                parts += [part, part.args[1]] if b == 10 else []
    return parts
