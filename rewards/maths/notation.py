"""One way to write what is written in many: widths of characters, digit groups, quotation marks.

Only what has one meaning is rewritten. Rules for the digits of one number:

* Groups of three after one to three digits (or of two before a last three, as in India) are one
  number when one of these joins them all: ``{,}``, ``,\\!``, ``\\,``, ``\\;``, ``\\:``, ``\\ ``,
  ``~``, an apostrophe, any space. ``12 345/678`` stays a mixed number.
* ``{,}`` before any other number of digits is a decimal comma.
* A bare comma is left as it is: outside of brackets the lexer reads ``1,234`` as a number first and
  as a list second, inside of them, and with a space after the comma, as a list only.
"""

from __future__ import annotations

import re
import unicodedata
from fractions import Fraction

from rewards.maths.conventions import conventional

_WIDE = {point: point - 0xFEE0 for point in range(0xFF01, 0xFF5E)}
"""Full-width forms of ASCII; not of the tilde, which means a range and in LaTeX a space."""
_STYLED = {
    point: character
    for point in range(0x1D400, 0x1D800)
    if (character := unicodedata.normalize("NFKC", chr(point))).isascii() and character.isalnum()
}
"""Mathematical letters and digits: bold, italic, double-struck..."""
WIDTHS: dict[int, int | str] = {
    **_WIDE, **_STYLED, ord("。"): ". ", ord("、"): ", ", ord("〈"): "(", ord("〉"): ")",
    ord("【"): "[", ord("】"): "]", 0x3000: " ",
}  # fmt: skip
_SPACES = dict.fromkeys((0xA0, 0x202F, 0x205F, *range(0x2000, 0x200B)), " ") | {0x200B: ""}
_TABLE = WIDTHS | _SPACES

_JOINT = r"\{,\}|\{\\,\}|\{ \}|,\\!|\\[,;: ]|~|['’]|[ ]"
_GROUPS = re.compile(
    rf"(?<![\d.])(?<!\d[ ,'’~])(?:\d{{1,3}}({_JOINT})(?:\d{{3}}\1){{0,40}}\d{{3}}"
    rf"|\d{{1,2}}({_JOINT})(?:\d{{2}}\2){{1,40}}\d{{3}})"
    r"(?!\d|(?:\1|\2)\d|\s{0,3}/|['’])"
)
_DECIMAL_GROUPS = re.compile(r"(?<=\d\.)\d{3}(\\,|[ ])(?:\d{3}\1){0,40}\d{1,3}(?![\d/]|\1\d)")
_DIGITS_APART = re.compile(r"\d[{,\\~'’ ][^0-9]{0,4}\d")
_DECIMAL_COMMA = re.compile(r"(?<=\d)\{,\}(?=\d)")
_POINT = re.compile(r"(?<=\d)\.(?=\s{0,3}(?:[/*+\-)\]},]))")
_SUPERSCRIPTS = str.maketrans("⁰¹²³⁴⁵⁶⁷⁸⁹⁻", "0123456789-")
_RAISED = re.compile(r"[⁰¹²³⁴⁵⁶⁷⁸⁹⁻]{2,10}|[⁰¹⁴⁵⁶⁷⁸⁹]")
_SUBSCRIPTS = str.maketrans("₀₁₂₃₄₅₆₇₈₉", "0123456789")
_LOWERED = re.compile(r"[₀-₉]{1,10}")
_QUOTED = re.compile(
    r"\s*(?:'([^']+)'|\"([^\"]+)\"|“([^“”]+)”|‘([^‘’]+)’|``([^`']+)''|「([^」]+)」)\s*\.?\s*"
)
_ARC = re.compile(
    r"(?<![\d.])(\d{1,6})\s?(?:\^\s?\{\s?\\circ\s?\}|\^\s?\\circ|\\circ\b|°)\s?"
    r"(\d{1,2}(?:\.\d{1,9})?)\s?(?:\^\s?\{\s?\\prime\s?\}|\^\s?\\prime\b|\\prime\b|\^\{'\}|'|′|’)"
    r"(?:\s?(\d{1,2}(?:\.\d{1,9})?)\s?(?:\^\s?\{\s?\\prime\s?\\prime\s?\}|\"|''|″|”|′′))?"
)  # fmt: skip
_DOTS = re.compile(r"(?<=[,+*\s])\s{0,3}\.{3,6}|\.{3,6}(?=\s{0,3}[,+*])|…|⋯")
_LESS = re.compile(
    r"(\\mathbb\s?\{?\s?[RZQNC]\s?\}?|ℝ|\bR)\s{0,3}(?:-|\\\\|\\(?=\s?[\\{])|/)\s{0,3}(?=\\?\{)"
)
_UNION = re.compile(r"(?<=[)\]}])(\s{0,3})[Uu](?=\s{0,3}(?:\\left)?\s?\\?[(\[{])")


def written_plainly(text: str) -> str:
    """`text` with its numbers and signs as the lexer reads them.

    >>> written_plainly("１２{,}345")
    '12345'
    >>> written_plainly("(0,1) U (2,3)")
    '(0,1) \\\\cup (2,3)'
    """
    ascii_only = text.isascii()
    if not ascii_only:
        text = text.translate(_TABLE)
        text = _RAISED.sub(lambda match: f"^{{{match[0].translate(_SUPERSCRIPTS)}}}", text)
        text = _LOWERED.sub(lambda match: f"_{{{match[0].translate(_SUBSCRIPTS)}}}", text)
    if not ascii_only or "'" in text or '"' in text:
        quoted = _QUOTED.fullmatch(text)
        if quoted:
            text = next(group for group in quoted.groups() if group is not None)
    if "\\circ" in text or "°" in text:
        text = _ARC.sub(_degrees, text)
    if "{.}" in text:
        text = text.replace("{.}", ".")
    if _DIGITS_APART.search(text):
        text = _DECIMAL_GROUPS.sub(_digits, _GROUPS.sub(_digits, text))
        text = _DECIMAL_COMMA.sub(".", text)
    text = conventional(text)
    if "." in text or not ascii_only:
        text = _DOTS.sub(r"\\ldots ", _POINT.sub("", text))
    if "{" in text or "U" in text or "u" in text:
        text = _UNION.sub(r"\1\\cup", _LESS.sub(r"\1 \\setminus ", text))
    return text


def _digits(match: re.Match[str]) -> str:
    return re.sub(r"\D", "", match[0])


def _degrees(match: re.Match[str]) -> str:
    """Degrees, minutes and seconds as a fraction of degrees."""
    value = Fraction(match[1]) + Fraction(match[2]) / 60 + Fraction(match[3] or 0) / 3600
    return f"\\frac{{{value.numerator}}}{{{value.denominator}}}^\\circ"
