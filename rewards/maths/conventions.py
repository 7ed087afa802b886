"""Notations of other countries and of plain text as the one that the lexer reads.

``1.234,5`` and ``1.234.567`` are numbers, ``]2;5[`` is an open interval, ``0.(3)``,
``0.\\dot 3`` and ``0.333...`` are thirds, ``3x10^8`` is a product, ``101_{\\text{two}}`` has its
base in digits. Only what has one meaning is rewritten, and most of it only in a whole answer.
"""

from __future__ import annotations

import re

_NEEDED = re.compile(
    r"\d\.\d{3}[.,]|[\[\]][^\[\]]{1,80}\[|\][^\[\]]{1,80}\]|\\dot|\\choose|\d[eExX]"
)
_NEEDED_TOO = re.compile(
    r"\.\d*\(|\d(?:\.\.\.|\\l?dots|…)|\)\^|\]\^|\\top|_\{?\\(?:text|mathrm)|\{cases\}"
)
_POINTS = re.compile(r"(?<![\d.,])(\d{1,3}(?:\.\d{3})+),(\d{1,9})(?![\d.,])")
_MANY_POINTS = re.compile(r"(?<![\d.,])\d{1,3}(?:\.\d{3}){2,}(?![\d.,])")
_OUTWARD = re.compile(r"([\[\]])([^\[\]]{1,80})([\[\]])")
_CYCLE = re.compile(r"(-?)(\d*\.\d*)\((\d{1,12})\)")
_DOTTED = re.compile(r"(-?)(\d*\.\d*)\\dot\s?\{?(\d)\}?(?:(\d*)\\dot\s?\{?(\d)\}?)?")
_GOING_ON = re.compile(r"(-?)(\d*\.\d*?)(\d{1,6}?)\3{2,}\s?(?:\.{3}|\\l?dots|…)")
_SHORT_POWER = re.compile(r"(-?\d{1,9})e(\d{1,3})")
_TIMES = re.compile(r"(-?\d{1,9}(?:\.\d{1,9})?)\s?[xX]\s?(10\^)")
_CHOOSE = re.compile(r"\{([^{}\\]{1,30})\\choose\s?([^{}\\]{1,30})\}")
_TRANSPOSED = re.compile(r"([(\[][^()\[\]]{1,200}[)\]])\s?\^\s?\{?\s?(?:T|\\top|\\intercal)\s?\}?")
_SYSTEM = re.compile(r"\\begin\{cases\}([^&]{1,300})\\end\{cases\}")
_BASES = {"two": 2, "three": 3, "four": 4, "five": 5, "six": 6, "seven": 7, "eight": 8, "nine": 9,
          "ten": 10, "twelve": 12, "sixteen": 16}  # fmt: skip
_BASE = re.compile(rf"_\s?\{{?\s?\\(?:text|mathrm)\s?\{{\s?({'|'.join(_BASES)})\s?\}}\s?\}}?")


def conventional(text: str) -> str:
    """`text` in the notation that the lexer reads.

    >>> conventional("1.234,5"), conventional("]2;5]"), conventional("0.1(6)")
    ('1234.5', '(2,5]', '0.1\\\\overline{6}')
    """
    if not (_NEEDED.search(text) or _NEEDED_TOO.search(text)):
        return text
    text = _POINTS.sub(lambda match: match[1].replace(".", "") + "." + match[2], text)
    text = _MANY_POINTS.sub(lambda match: match[0].replace(".", ""), text)
    text = _OUTWARD.sub(_interval, text)
    text = _BASE.sub(lambda match: f"_{{{_BASES[match[1]]}}}", text)
    text = _CHOOSE.sub(r"\\binom{\1}{\2}", text)
    whole = text.strip().strip("$")
    for pattern, form in _WHOLE.items():
        match = pattern.fullmatch(whole)
        if match:
            return form(match)
    return _TIMES.sub(r"\1 \\times \2", text) if _TIMES.match(whole) else text


_WHOLE = {
    _CYCLE: lambda match: f"{match[1]}{match[2]}\\overline{{{match[3]}}}",
    _DOTTED: lambda match: (
        f"{match[1]}{match[2]}\\overline{{{match[3]}{match[4] or ''}{match[5] or ''}}}"
    ),
    _GOING_ON: lambda match: f"{match[1]}{match[2]}\\overline{{{match[3]}}}",
    _SHORT_POWER: lambda match: f"{match[1]}E{match[2]}",
    _TRANSPOSED: lambda match: match[1],
    _SYSTEM: lambda match: match[1].replace("\\\\", ", "),
}


def _interval(match: re.Match[str]) -> str:
    """Brackets turned outwards as parentheses; anything else as it is."""
    left, inside, right = match.groups()
    mark = ";" if inside.count(";") == 1 else ","
    if (left, right) == ("[", "]") and mark == ",":
        return match[0]
    if (left == "[" and right == "]") or inside.count(mark) != 1:
        return match[0]
    low, high = inside.split(mark)
    opening, closing = ("(" if left == "]" else "["), (")" if right == "[" else "]")
    return f"{opening}{low},{high}{closing}"
