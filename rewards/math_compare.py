"""Comparing a predicted answer with the gold one: cheap exact rules first, Math-Verify last.

Nothing is evaluated before its text has passed :func:`refusal`. Runs in a worker process, as
sympy can still take long.
"""

from __future__ import annotations

import logging
import re
from fractions import Fraction

MAX_CHARS = 2_000
MAX_DEPTH = 30
MAX_DIGITS = 60
MAX_EXPONENT = 300

_DECORATION = re.compile(
    r"\\(?:left|right|displaystyle|limits|,|;|:|!|quad|qquad| )(?![A-Za-z])|\$|~|\\\$"
)
_TEXT = re.compile(r"\\(?:text|mathrm|mathbf|textbf|operatorname|mbox|rm)\s*\{([^{}]*)\}")
_THOUSANDS = re.compile(r"(?<=\d),(?:\\!)?(?=\d{3}(?!\d))")
_NUMBER = re.compile(r"([-+]?)(\d+)?(?:\.(\d*))?")
_RATIO = re.compile(r"([-+]?)(?:(\d+)/(\d+)|\\[dt]?frac\{([-+]?\d+)\}\{([-+]?\d+)\})")
_UNEVALUATED = re.compile(
    r"\\(?:i{0,3}nt|oint|sum|prod|lim|det|bmod|pmod|mod|gcd|lcm)(?![A-Za-z])"
    r"|\b(?:integrate|limit|gcd|lcm|mod)\b|\bd/dx\b|\\frac\{d\}\{d"
)
_HUGE_EXPONENT = re.compile(rf"\^\{{?-?(\d{{{len(str(MAX_EXPONENT))},}}|\d+\^|\{{)")
_TOWER = re.compile(r"\^\{?[^{}]{0,20}\^")
_FACTORIAL = re.compile(r"(\d+)\s*!|[)}]\s*!|!\s*!")


def compare(gold: str, answer: str) -> tuple[str, str]:
    """Verdict (correct, wrong, unparsable, too_complex) and the rule that decided."""
    plain_gold, plain_answer = normalised(gold), normalised(answer)
    if plain_answer == plain_gold:
        return "correct", "identical text"
    exact_gold, exact_answer = exact_number(plain_gold), exact_number(plain_answer)
    if exact_gold is not None and exact_answer is not None:
        return _verdict(exact_gold == exact_answer), "exact numbers"
    problem = refusal(plain_answer)
    if problem is not None:
        return "too_complex", problem
    if _UNEVALUATED.search(plain_answer) and not _UNEVALUATED.search(plain_gold):
        return "wrong", "an operator is left to work out"
    return _by_math_verify(plain_gold, plain_answer)


def normalised(text: str) -> str:
    """`text` without spaces, dollar signs, layout commands, or separators of thousands."""
    text = _TEXT.sub(r"\1", text.strip())
    text = _DECORATION.sub("", text)
    text = _THOUSANDS.sub("", text)
    text = re.sub(r"\\[dt]frac", r"\\frac", text)
    text = re.sub(r"\\frac\s*(\d)\s*(\d)", r"\\frac{\1}{\2}", text)
    return re.sub(r"\s+", "", text).removesuffix(".")


def exact_number(text: str) -> Fraction | None:
    """A plain integer, decimal or ratio of integers as an exact number, else None."""
    if len(text) > MAX_CHARS:
        return None
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


def refusal(text: str) -> str | None:
    """Why `text` is too complex to be evaluated, or None when it is not."""
    if len(text) > MAX_CHARS:
        return f"longer than {MAX_CHARS} characters"
    if _depth(text) > MAX_DEPTH:
        return f"nested deeper than {MAX_DEPTH}"
    if re.search(rf"\d{{{MAX_DIGITS},}}", text):
        return f"a number of more than {MAX_DIGITS} digits"
    if text.count("^") + text.count("**") > 12 or _TOWER.search(text) or "**" in text:
        return "towers of exponents"
    if any(not m[1].isdigit() or int(m[1]) > MAX_EXPONENT for m in _HUGE_EXPONENT.finditer(text)):
        return f"an exponent over {MAX_EXPONENT}"
    if any(m[1] is None or int(m[1]) > MAX_EXPONENT for m in _FACTORIAL.finditer(text)):
        return "a large factorial"
    if text.count("&") > 100 or text.count("--") > 10:
        return "too many parts"
    return None


def _depth(text: str) -> int:
    depth = deepest = 0
    for character in text:
        depth += (character in "([{") - (character in ")]}")
        deepest = max(deepest, depth)
    return deepest


def _verdict(equal: bool) -> str:
    return "correct" if equal else "wrong"


def _by_math_verify(gold: str, answer: str) -> tuple[str, str]:
    """Math-Verify's opinion, without its alarms: the worker's CPU limit replaces them."""
    from math_verify import parse, verify  # slow to import, so only where it runs

    logging.getLogger("math_verify").setLevel(logging.ERROR)  # it warns of limits switched off
    gold_parsed = parse(f"${gold}$", parsing_timeout=0)
    answer_parsed = parse(f"${answer}$", parsing_timeout=0)
    if not answer_parsed:
        return "unparsable", "Math-Verify reads nothing in the answer"
    equal = verify(gold_parsed, answer_parsed, timeout_seconds=None)
    return _verdict(equal), "Math-Verify"
