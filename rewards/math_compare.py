"""Comparing a predicted answer with the gold one, cheap exact rules first.

The answer is read by :mod:`rewards.maths` and compared on its syntax tree. A single value that
this parser does not read is left to Math-Verify, after a check of the text. Runs in a worker
process, as either can still take long.
"""

from __future__ import annotations

import re

from rewards.maths.by_tree import by_parameter, by_tree, is_calculation, read_two_ways
from rewards.maths.calendar_days import same_day
from rewards.maths.congruences import same_congruence
from rewards.maths.decision import Decision, decided
from rewards.maths.lexer import MAX_CHARS
from rewards.maths.notation import written_plainly
from rewards.maths.phrases import as_formula
from rewards.maths.piecewise import has_cases, same_cases
from rewards.maths.plain_text import (
    exact_number,
    has_groups,
    narrowed,
    spelled_out,
    squeezed,
    unqualified,
)
from rewards.maths.spoken import (
    concludes,
    letter_and_value,
    lone_letter,
    named_set,
    same_sentence,
    says,
)
from rewards.maths.told_by_text import by_text, by_words

_LISTED = re.compile(r"\d,\s")
_COMMA = re.compile(r"-?\d+,(?:\d{1,2}|\d{4,9})|-?0,\d{1,9}")
_ARTICLE = re.compile(r"^(?:[Aa]n?|[Tt]he)\s+(?=[A-Za-z]{2})")
_ONE_TEXT = re.compile(r"\s*\\(?:text|mathrm|textbf|mbox)\s?\{([^{}]*)\}\s*")
_CURRENCIES = {
    "dollar": r"\\\$|\b(?:dollars?|usd)\b", "euro": r"€|\b(?:euros?|eur)\b|\\euro\b",
    "pound": r"£|\\pounds\b|\bgbp\b", "yen": r"¥|\byen\b", "rupee": r"₹|\brupees?\b",
}  # fmt: skip
_ROUGHLY = re.compile(
    r"\s*(?:\\text\s?\{\s*)?(?:approximately|approx\.?|about|roughly)\s*\}?\s*(?=[-\d\\$])|\s*\\approx"
)
_MONEY = re.compile(r"\\\$|[€£¥₹]|\\(?:euro|pounds)\b|dollar|usd|eur|gbp|yen|rupee", re.IGNORECASE)


def compare(gold: str, answer: str, *, worked_out: bool = False) -> Decision:
    """Whether `answer` is equal to `gold`; neither is evaluated before its tree was checked.

    With `worked_out`, a single number must be answered by one, not by a calculation.
    """
    if len(answer) > MAX_CHARS:
        return Decision("too_complex", f"longer than {MAX_CHARS} characters")
    if answer == gold:
        return Decision("correct", "identical text")
    plain_gold, plain_answer = squeezed(gold), squeezed(answer)
    if plain_answer == plain_gold:
        return Decision("correct", "identical text")
    decision = _by_numbers(gold, answer, plain_gold, plain_answer)
    if decision is not None:
        return decision
    before = gold, answer
    if has_cases(gold) or has_cases(answer):
        same = same_cases(
            gold, answer, same=lambda one, two: compare(one, two).verdict == "correct"
        )
        if same is not None:
            return decided(same, "case by case")
    if _ROUGHLY.match(gold):
        gold, answer = _ROUGHLY.sub("", gold), _ROUGHLY.sub("", answer)
    gold = as_formula(written_plainly(gold))
    answer = as_formula(written_plainly(answer))
    if _one_text(gold) == _one_text(answer):
        return Decision("correct", "identical text")
    ours, theirs = _currencies(gold), _currencies(answer)
    if ours and theirs and ours.isdisjoint(theirs):
        return Decision("wrong", "another currency")
    choice = letter_and_value(gold)
    if choice is not None:
        return _letter_or_value(choice, answer, worked_out=worked_out)
    said = by_words(gold, answer)
    if said is not None:
        return said
    if (
        says(gold, answer)
        or concludes(answer, gold)
        or concludes(gold, answer)
        or same_sentence(gold, answer)
    ):
        return Decision("correct", "what the sentence says")
    alike = same_congruence(gold, answer)
    if alike is not None:
        return decided(alike, "residues")
    alike = same_day(gold, answer)
    if alike is not None:
        return decided(alike, "days")
    gold, answer = named_set(gold) or gold, named_set(answer) or answer
    gold, answer = spelled_out(gold, answer), spelled_out(answer, gold)
    if (gold, answer) != before:
        plain_gold, plain_answer = squeezed(gold), squeezed(answer)
        decision = _by_numbers(gold, answer, plain_gold, plain_answer)
        if decision is not None:
            return decision
    parametrised = by_parameter(gold, answer)
    if parametrised is not None:
        return parametrised
    if narrowed(gold, answer):
        return Decision("wrong", "it is said to hold for some values only")
    gold, answer = unqualified(gold), unqualified(answer)
    written = by_text(plain_gold, plain_answer, answer)
    if written is not None:
        return written
    if worked_out and exact_number(plain_gold) is not None and is_calculation(answer):
        return Decision("wrong", "a calculation is left to be worked out")
    decision = by_tree(gold, answer, thousands=True)
    grouped = has_groups(plain_gold) or has_groups(plain_answer)
    if (
        decision.verdict != "correct"
        and grouped
        and not (read_two_ways(gold) and read_two_ways(answer))
    ):
        again = by_tree(gold, answer, thousands=False)
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
            return decided(exact_gold == exact_answer, "exact numbers")
    if "." in plain_gold and _COMMA.fullmatch(plain_answer):
        same = exact_gold == exact_number(plain_answer.replace(",", "."))
        return decided(same, "a decimal comma")
    return None


def _one_text(text: str) -> str:
    """What stands in the one ``\\text{...}`` that an answer is, or the answer, less its spaces."""
    match = _ONE_TEXT.fullmatch(text)
    return _ARTICLE.sub("", " ".join((match[1] if match else text).split()))


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
        return decided(alone == letter, "letters of a choice")
    return compare(value, both[1] if both else answer, worked_out=worked_out)
