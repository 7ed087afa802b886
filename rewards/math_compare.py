"""Comparing a predicted answer with the gold one, cheap exact rules first.

The answer is read by :mod:`rewards.maths` and compared on its syntax tree. A single value that
this parser does not read is left to Math-Verify, after a check of the text. Runs in a worker
process, as either can still take long.
"""

from __future__ import annotations

import logging
import re
from fractions import Fraction
from typing import NamedTuple

from rewards.maths.equations import split_label
from rewards.maths.functions import has_values, with_values
from rewards.maths.lexer import MAX_CHARS
from rewards.maths.notation import written_plainly
from rewards.maths.parameters import with_one_letter
from rewards.maths.parser import parse
from rewards.maths.same_answer import same_answer
from rewards.maths.scalars import is_scalar
from rewards.maths.series import elided, named_alike, same_elided
from rewards.maths.spoken import letter_and_value, lone_letter, named_set, says
from rewards.maths.tree import Node, TooComplex, Undefined, Unparsable, walk

MAX_FALLBACK_CHARS = 100
MAX_FALLBACK_NUMBER = 300

_DECORATION = re.compile(
    r"\\(?:left|right|displaystyle|limits|,|;|:|!|quad|qquad| )(?![A-Za-z])|\$|~|\\\$"
)
_SPACE = re.compile(r"(?<!\d) | (?![\d.])")
_THOUSANDS = re.compile(r"(?:\d{1,3}(?:,\d{3})+|\d{1,2}(?:,\d{2})+,\d{3})(?:\.\d+)?")
_INTEGER = re.compile(r"-?[0-9]{1,1000}")
_LISTED = re.compile(r"\d,\s")
_NUMBER = re.compile(r"([-+]?)(\d+)?(?:\.(\d*))?")
_COMMA = re.compile(r"-?\d+,(?:\d{1,2}|\d{4,9})|-?0,\d{1,9}")
_ONE_TEXT = re.compile(r"\s*\\(?:text|mathrm|textbf|mbox)\s?\{([^{}]*)\}\s*")
_CURRENCIES = {
    "dollar": r"\\\$|\b(?:dollars?|usd)\b", "euro": r"€|\b(?:euros?|eur)\b|\\euro\b",
    "pound": r"£|\\pounds\b|\bgbp\b", "yen": r"¥|\byen\b", "rupee": r"₹|\brupees?\b",
}  # fmt: skip
_MONEY = re.compile(r"\\\$|[€£¥₹]|\\(?:euro|pounds)\b|dollar|usd|eur|gbp|yen|rupee", re.IGNORECASE)
_RATIO = re.compile(r"([-+]?)(?:(\d+)/(\d+)|\\[dt]?frac\{([-+]?\d+)\}\{([-+]?\d+)\})")
_TIME = re.compile(
    r"\D{0,12}?(\d{1,2}(?::\d\d){1,2})(?:\\text|\\mbox|\{|\})*(a|p)?\.?(?:m\b|m\.)?\D{0,9}",
    re.IGNORECASE,
)
_CHOICE = re.compile(r"\(?([A-J])(?:\)|\.|:)(?:\s+(?!or\b|and\b|&|\\(?:[bp]?mod|times|cdot)\b)|$)")
_CHOICES = re.compile(r"\(([A-J])\)")
_CHOICE_GOLD = re.compile(r"\(?([A-J])\)?")
_QUALIFIER = re.compile(
    r"\\forall|\bfor\s{1,3}(?:all|every|any|each)\b|\\text\s?\{\s?,?\s?(?:for|where)\b"
    r"|[,(]\s?\(?\s?[a-zA-Z]\s?\\in\s?\\(?:mathbb|mathbf)\s?\{?\s?[ZNQR]"
)
_QUALIFYING = re.compile(r"for|where|\\in\b")
_ONLY_BELOW = re.compile(
    r"\bfor\s{1,3}(?:all|every|any|each)\b[^<=]{0,20}[a-zA-Z]\s?(?:<|\\(?:le|lt|leq)\b)"
)
_MORE = re.compile(r"=|\bor\b|[,;]\s{0,3}[-+]?[\d\\]")
_COMMAND_NAME = re.compile(r"\\(?:text|mathrm|mathbf|textbf|mbox)\s*\{([^{}]*)\}")
_COMMANDS = re.compile(r"\\(?!text|mbox|le|ge|ne|in|begin)[A-Za-z]+")
MAX_EXACT_DIGITS = 4_000
_MAGNITUDES = {
    "dozen": 12, "hundred": 100, "thousand": 10**3, "million": 10**6, "billion": 10**9,
    "trillion": 10**12,
}  # fmt: skip
_MAGNITUDE = re.compile(
    r"(?<![\w.,])(\d{1,3}(?:,\d{3})+|\d{1,30}(?:\.\d{1,30})?)(?:\s|~|\\[, ]){0,9}"
    r"(\\(?:text|mbox|mathrm)\s?\{\s{0,9})?"
    r"(dozen|hundred|thousand|million|billion|trillion)s?\b",
    re.IGNORECASE,
)
_MAGNITUDE_WORD = re.compile(r"ozen|undred|housand|illion", re.IGNORECASE)
_REPEATING = re.compile(r"(?<![\d.])(\d*)\.\\overline\{(\d{1,50})\}")
_DOLLARS = re.compile(r"\\\$\s*(\d[\d,]*(?:\.\d+)?)")
_NUMBER_WORDS = (
    "zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten",
    "eleven", "twelve", "thirteen", "fourteen", "fifteen", "sixteen", "seventeen", "eighteen",
    "nineteen", "twenty",
)  # fmt: skip


class Decision(NamedTuple):
    """The verdict (correct, wrong, unparsable, too_complex) and the rule that decided."""

    verdict: str
    rule: str


def compare(gold: str, answer: str, *, worked_out: bool = False) -> Decision:
    """Whether `answer` is equal to `gold`; neither is evaluated before its tree was checked.

    With `worked_out`, a single number must be answered by one, not by a calculation.
    """
    if len(answer) > MAX_CHARS:
        return Decision("too_complex", f"longer than {MAX_CHARS} characters")
    plain_gold, plain_answer = squeezed(gold), squeezed(answer)
    if plain_answer == plain_gold:
        return Decision("correct", "identical text")
    decision = _by_numbers(gold, answer, plain_gold, plain_answer)
    if decision is not None:
        return decision
    before = gold, answer
    gold, answer = written_plainly(gold), written_plainly(answer)
    if _one_text(gold) == _one_text(answer):
        return Decision("correct", "identical text")
    ours, theirs = _currencies(gold), _currencies(answer)
    if ours and theirs and ours.isdisjoint(theirs):
        return Decision("wrong", "another currency")
    choice = letter_and_value(gold)
    if choice is not None:
        return _letter_or_value(choice, answer, worked_out=worked_out)
    if says(gold, answer):
        return Decision("correct", "what the sentence says")
    gold, answer = named_set(gold) or gold, named_set(answer) or answer
    gold, answer = spelled_out(gold, answer), spelled_out(answer, gold)
    if (gold, answer) != before:
        plain_gold, plain_answer = squeezed(gold), squeezed(answer)
        decision = _by_numbers(gold, answer, plain_gold, plain_answer)
        if decision is not None:
            return decision
    parametrised = _by_parameter(gold, answer)
    if parametrised is not None:
        return parametrised
    if "for" in answer and _ONLY_BELOW.search(answer) and not _QUALIFIER.search(gold):
        return Decision("wrong", "it is said to hold for some values only")
    gold, answer = unqualified(gold), unqualified(answer)
    written = _by_text(plain_gold, plain_answer, answer)
    if written is not None:
        return written
    if worked_out and exact_number(plain_gold) is not None and _calculation(answer):
        return Decision("wrong", "a calculation is left to be worked out")
    decision = _by_tree(gold, answer, thousands=True)
    grouped = _THOUSANDS.search(plain_gold + " " + plain_answer)
    if decision.verdict != "correct" and grouped and not (_two_ways(gold) and _two_ways(answer)):
        again = _by_tree(gold, answer, thousands=False)
        return again if again.verdict == "correct" else decision
    return decision


def _by_numbers(gold: str, answer: str, plain_gold: str, plain_answer: str) -> Decision | None:
    """Two plain numbers compared exactly; undecided where a decimal may be a fraction rounded."""
    exact_gold = None if _LISTED.search(gold) else exact_number(plain_gold)
    if exact_gold is None:
        return None
    exact_answer = None if _LISTED.search(answer) else exact_number(plain_answer)
    if exact_answer is not None:
        one_is_decimal = ("." in plain_gold) != ("." in plain_answer)
        if exact_gold == exact_answer or not one_is_decimal:
            return _decision(exact_gold == exact_answer, "exact numbers")
    if "." in plain_gold and _COMMA.fullmatch(plain_answer):
        same = exact_gold == exact_number(plain_answer.replace(",", "."))
        return _decision(same, "a decimal comma")
    return None


def _one_text(text: str) -> str:
    """What stands in the one ``\\text{...}`` that an answer is, or the answer, less its spaces."""
    match = _ONE_TEXT.fullmatch(text)
    return " ".join((match[1] if match else text).split())


def _currencies(text: str) -> set[str]:
    """The currencies that a text names."""
    if not _MONEY.search(text):
        return set()
    return {name for name, sign in _CURRENCIES.items() if re.search(sign, text, re.IGNORECASE)}


def _letter_or_value(choice: tuple[str, str], answer: str, *, worked_out: bool) -> Decision:
    """Of a gold with a letter and a value either is right, and both are if they are the gold's."""
    letter, value = choice
    both, alone = letter_and_value(answer), lone_letter(answer)
    if both is not None and both[0] != letter:
        return Decision("wrong", "letters of a choice")
    if alone is not None and lone_letter(value) is None:
        return _decision(alone == letter, "letters of a choice")
    return compare(value, both[1] if both else answer, worked_out=worked_out)


def _by_parameter(gold: str, answer: str) -> Decision | None:
    """Correct when both declare a parameter and are equal but for its letter; else undecided."""
    trees = with_one_letter(gold, answer)
    if trees is None or _unevaluated(trees[1]) or any(map(elided, trees)):
        return None
    try:
        rule = same_answer(*trees)
    except (TooComplex, Unparsable, Undefined, RecursionError):
        return None
    return Decision("correct", f"{rule}, with the parameter renamed") if rule else None


def _two_ways(text: str) -> bool:
    """Whether commas in it may group digits or part a list: ``1,234``, but not ``(1,234)``."""
    try:
        return parse(text, thousands=True) != parse(text, thousands=False)
    except (TooComplex, Unparsable, RecursionError):
        return True


def squeezed(text: str) -> str:
    """`text` without dollar signs, layout commands, sizes, a final full stop, and spaces.

    Spaces between digits stay: ``1 2/3`` is not ``12/3``.
    """
    if text.isalnum():
        return text
    if "\\" in text:
        text = text.replace("\\dfrac", "\\frac").replace("\\tfrac", "\\frac")
    text = " ".join(_DECORATION.sub(" ", text).split())
    return _SPACE.sub("", text).removesuffix(".")


def spelled_out(text: str, other: str) -> str:
    """`text` with magnitudes and short numbers as digits, and dollar signs as a unit beside cents.

    ``3 million`` is 3000000, ``seven`` is 7, ``0.\\overline{3}`` is ``0.3\\overline{3}``.
    """
    text = " ".join(text.split())
    if "\\overline" in text:
        text = _REPEATING.sub(r"\1.\2\\overline{\2}", text)
    if _MAGNITUDE_WORD.search(text):
        text = _MAGNITUDE.sub(_multiplied, text)
    if len(text) < 40:
        word = _COMMAND_NAME.sub(r"\1", text).strip().rstrip(".").lower()
        if word in _NUMBER_WORDS:
            return str(_NUMBER_WORDS.index(word))
    if "\\$" in text and re.search(r"\bcents?\b|¢", other):
        return _DOLLARS.sub(r"\1 \\text{ dollars}", text)
    return text


def _multiplied(match: re.Match[str]) -> str:
    value = Fraction(match[1].replace(",", "")) * _MAGNITUDES[match[3].lower()]
    digits = str(value.numerator) if value.denominator == 1 else f"{float(value)!r}"
    return f"{digits}{match[2] or ''}"


def unqualified(text: str) -> str:
    """`text` without "for all positive integers n" and the like at its end.

    What could be one more answer is no qualification and stays.
    """
    match = _QUALIFIER.search(text) if _QUALIFYING.search(text) else None
    if match is None or _MORE.search(text, match.end()):
        return text
    rest = text[: match.start()].rstrip(" ,({\n")
    if not re.search(r"[\d=]", rest):
        return text
    for command in ("\\text", "\\mbox", "\\quad", "\\qquad"):
        rest = rest.removesuffix(command).rstrip(" ,({\n")
    return rest


def exact_number(text: str) -> Fraction | None:
    """A plain integer, decimal or ratio of integers as an exact number, else None."""
    if len(text) > MAX_EXACT_DIGITS:
        return None
    if text.isdecimal():
        return Fraction(int(text))
    if "," in text and _THOUSANDS.fullmatch(text):
        text = text.replace(",", "")
    match = _NUMBER.fullmatch(text)
    if match and (match[2] or match[3]):
        sign = -1 if match[1] == "-" else 1
        digits = (match[2] or "") + (match[3] or "")
        return Fraction(sign * int(digits), 10 ** len(match[3] or ""))
    match = _RATIO.fullmatch(text)
    if match is None:
        return None
    above, below = int(match[2] or match[4]), int(match[3] or match[5])
    if below == 0:
        return None
    return Fraction(-above if match[1] == "-" else above, below)


def _decision(equal: bool, rule: str) -> Decision:
    return Decision("correct" if equal else "wrong", rule)


def _by_text(gold: str, squeezed_answer: str, answer: str) -> Decision | None:
    """Answers that are told by their writing: times of day and letters of a choice."""
    if ":" in gold and ":" in squeezed_answer:
        one, two = _TIME.fullmatch(gold), _TIME.fullmatch(squeezed_answer)
        if one and two:
            same = _half(one) == _half(two) or not (_half(one) and _half(two))
            same = same and (one[1].lstrip("0") == two[1].lstrip("0") or _clock(one) == _clock(two))
            return _decision(same, "times of day")
    letter = _CHOICE_GOLD.fullmatch(_COMMAND_NAME.sub(r"\1", gold))
    chosen = _CHOICE.match(_COMMAND_NAME.sub(r"\1", answer.strip()))
    if letter and chosen:
        named = set(_CHOICES.findall(_COMMAND_NAME.sub(r"\1", answer)))
        same = letter[1] == chosen[1] and named <= {letter[1]}
        return _decision(same, "letters of a choice")
    return None


def _clock(match: re.Match[str]) -> tuple[int, ...]:
    """Hours, minutes and seconds of a day; ``p.m.`` adds twelve hours, without it they are 24."""
    hour, *rest = (int(part) for part in match[1].split(":"))
    if _half(match):
        hour = hour % 12 + 12 * (_half(match) == "p")
    return hour, *rest


def _half(match: re.Match[str]) -> str:
    """``a`` or ``p`` for the half of the day that a time names, else nothing."""
    return (match[2] or "").lower()


def _calculation(answer: str) -> bool:
    """Whether the value of an answer is a sum, product, power or function of numbers."""
    try:
        _, value = split_label(parse(answer))
    except (TooComplex, Unparsable, RecursionError):
        return False
    kinds = {"add", "multiply", "power", "factorial", "call", "plus_minus"}
    return any(part.kind in kinds for part in walk(value) if part not in _notation(value))


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


def _by_tree(gold: str, answer: str, *, thousands: bool) -> Decision:
    try:
        return _by_tree_unguarded(gold, answer, thousands=thousands)
    except RecursionError:
        return Decision("too_complex", "nested too deeply")
    except MemoryError:  # of the worker's limit, so it says something about the answer
        return Decision("too_complex", "numbers too large")


def _by_tree_unguarded(gold: str, answer: str, *, thousands: bool) -> Decision:
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
            return _by_math_verify(gold, answer, reason)
        return Decision("unparsable", reason)
    try:
        if has_values(gold_tree):
            gold_tree, answer_tree = with_values(gold_tree), with_values(answer_tree)
        gold_tree, answer_tree = named_alike(gold_tree, answer_tree) or (gold_tree, answer_tree)
        operation = _unevaluated(answer_tree)
        if operation:
            return Decision("wrong", f"{operation} is left to be worked out")
        dots = elided(gold_tree) or elided(answer_tree)
        same = same_elided if dots else same_answer
        rule = same(gold_tree, answer_tree)
    except TooComplex as error:
        return Decision("too_complex", str(error))
    except Undefined as error:
        return Decision("wrong", f"no value: {error}")
    except Unparsable as error:
        return Decision("wrong", f"not comparable: {error}")
    return Decision("correct", rule) if rule else Decision("wrong", "not equal by any rule")


def _unevaluated(tree: Node) -> str | None:
    """What an answer still asks its reader to compute; powers of matrices are that too."""
    for part in walk(tree):
        if part.kind == "unevaluated":
            return part.name.rstrip("_^")
        if part.kind == "power" and any(below.kind == "matrix" for below in walk(part)):
            return "a power of a matrix"
    return None


def _by_math_verify(gold: str, answer: str, reason: str) -> Decision:
    """Math-Verify's opinion on a formula in a style that our parser does not know.

    It reads a part of what it is given and ignores the rest, so it gets single values only. Its
    alarms are off: the worker's CPU limit replaces them.
    """
    problem = _refusal(answer) or _refusal(gold)
    if problem is not None:
        return Decision("unparsable", f"{reason}; {problem}")
    from math_verify import parse as their_parse  # slow to import, so only where it runs
    from math_verify import verify

    logging.getLogger("math_verify").setLevel(logging.ERROR)  # it warns of limits switched off
    gold_parsed = their_parse(f"${squeezed(gold)}$", parsing_timeout=0)
    answer_parsed = their_parse(f"${squeezed(answer)}$", parsing_timeout=0)
    if not answer_parsed:
        return Decision("unparsable", reason)
    equal = verify(gold_parsed, answer_parsed, timeout_seconds=None)
    return _decision(equal, "Math-Verify")


def _refusal(text: str) -> str | None:
    """Why a text that our parser does not read is too risky to be evaluated; None if it is not."""
    if len(text) > MAX_FALLBACK_CHARS:
        return f"longer than {MAX_FALLBACK_CHARS} characters"
    if re.search(r"[^ -~\n]|[|?'\"`@#&]|\\(?:boxed|fbox)", text):
        return "characters that Math-Verify would pass over"
    if re.search(
        r"[=<>,;]|\d\s+\d|[A-Za-z]{4}|\\(?:text|mbox|le|ge|ne|in|begin)", _COMMANDS.sub("", text)
    ):
        return "more than one value"
    if re.search(r"\d{30,}|\^[^+\-=,]{0,12}\^|\*\*|!|\\(?:int|sum|prod|lim|det|bmod|pmod)", text):
        return "more than Math-Verify should be given"
    if any(int(number) > MAX_FALLBACK_NUMBER for number in re.findall(r"\^\{?-?(\d+)", text)):
        return f"an exponent over {MAX_FALLBACK_NUMBER}"
    return None
