"""The text of an answer before it is parsed: spaces, magnitudes, number words, qualifiers."""

from __future__ import annotations

import re
from fractions import Fraction

_DECORATION = re.compile(
    r"\\(?:left|right|displaystyle|limits|,|;|:|!|quad|qquad| )(?![A-Za-z])|\$|~|\\\$"
)
_SPACE = re.compile(r"(?<!\d) | (?![\d.])")
_THOUSANDS = re.compile(r"(?:\d{1,3}(?:,\d{3})+|\d{1,2}(?:,\d{2})+,\d{3})(?:\.\d+)?")
_NUMBER = re.compile(r"([-+]?)(\d+)?(?:\.(\d*))?")
_RATIO = re.compile(r"([-+]?)(?:(\d+)/(\d+)|\\[dt]?frac\{([-+]?\d+)\}\{([-+]?\d+)\})")
_QUALIFIER = re.compile(
    r"\\forall|\bfor\s{1,3}(?:all|every|any|each)\b|\\text\s?\{\s?,?\s?(?:for|where)\b"
    r"|[,(](?:\s|\\[ ,;]|\\q?quad)*\(?\s?[a-zA-Z]\s?\\in\s?\\(?:mathbb|mathbf)\s?\{?\s?[ZNQR]"
)
_QUALIFYING = re.compile(r"for|where|\\in\b")
_ONLY_BELOW = re.compile(
    r"\bfor\s{1,3}(?:all|every|any|each)\b[^<=]{0,20}[a-zA-Z]\s?(?:<|\\(?:le|lt|leq)\b)"
)
_MORE = re.compile(r"=|\bor\b|[,;]\s{0,3}[-+]?[\d\\]")
_COMMAND_NAME = re.compile(r"\\(?:text|mathrm|mathbf|textbf|mbox)\s*\{([^{}]*)\}")
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


def narrowed(gold: str, answer: str) -> bool:
    """Whether an answer is said to hold for some values only, and the gold is not."""
    return "for" in answer and bool(_ONLY_BELOW.search(answer)) and not _QUALIFIER.search(gold)


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


def has_groups(text: str) -> bool:
    """Whether commas part digits in groups, as in ``1,234``."""
    return "," in text and _THOUSANDS.search(text) is not None
