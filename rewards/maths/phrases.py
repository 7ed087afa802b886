"""Answers with words around or inside them as the formula that they say.

``The only solution is $x = 2$``, ``exactly 9`` and ``Option C`` are their values; ``3 to 4`` is a
ratio, ``1 hour 30 minutes`` one duration, ``\\frac{km}{h}`` a unit, ``(1|2)`` a point. Only what
has one meaning is rewritten.
"""

from __future__ import annotations

import re
from fractions import Fraction

from rewards.maths.sentences import in_parts, stated
from rewards.maths.units import measure

_WORDS = re.compile(r"(?<![\\A-Za-z])[A-Za-z]{2}|\\(?:text|mathrm|mbox|Omega)")
_COMMAND = re.compile(r"\\(?:text|textbf|textrm|mathrm|mbox)\s?\{([^{}]*)\}")
_LAYOUT = re.compile(r"\\[,;:! ]|~")
_OPENING = r"\\(?:text|textbf|textrm|mathrm|mbox)\s?\{\s{0,3}"
_INTRODUCTION = re.compile(
    rf"\s*(?P<opening>{_OPENING})?(?:(?:the\s+)?(?:(?:only|correct|right|one|possible)\s+)*"
    r"(?:solution|answer|value|pair|triple|function|number|integer|option|choice)s?"
    r"\s+(?:is|are|would be)(?:\s+(?:exactly|only|just|equal to))?"
    r"|only|exactly|precisely|just|option|choice)(?:\s{0,3}(?P<closing>\})\s*|\s+)"
    r"(?=[\\$(\w-])(?!(?:and|or|not)\b)",
    re.IGNORECASE,
)
_NEGATIVE = re.compile(
    rf"^\s*{_OPENING}(?:negative|minus)\s{{0,3}}\}}\s*(?=\d|\\frac)", re.IGNORECASE
)
_HALF = re.compile(
    r"\s*(\d{1,9})\s*(?:\\text\s?\{\s*)?and\s+(?:a|one)\s+half\s*\}?\s*", re.IGNORECASE
)
_ROUGHLY = re.compile(r"(?<=[\d}])\s*\\text\s?\{\s*\(?approximately\)?\s*\}\s*$", re.IGNORECASE)
_RATIO = re.compile(r"(\d{1,12}(?:\.\d{1,9})?)((?:\s?to\s?\d{1,12}(?:\.\d{1,9})?){1,4})")
_POINT = re.compile(r"\s*\(([^|()A-Za-z,]{1,40})\|([^|()A-Za-z,]{1,40})\)\s*")
_PART = r"(\d{1,9}(?:\.\d{1,9})?)\s?([a-z]{1,12})\.?"
_COMPOUND = re.compile(rf"{_PART}(?:,?\s(?:and\s)?|\s?){_PART}(?:(?:,?\s(?:and\s)?|\s?){_PART})?")
_WRAPPED = r"(?:\\(?:text|mathrm|mbox|textrm)\s?\{\s?([a-zA-Z]{1,12})\s?\}|([a-zA-Z]{1,12}))"
_QUOTIENT = re.compile(
    rf"(?<=[\d}}\s~,;:])\\[dt]?frac\s?\{{\s?{_WRAPPED}\s?\}}\s?\{{\s?{_WRAPPED}\s?\}}\s*$"
)
_INVERSE = re.compile(
    r"\\(?:text|mathrm)\s?\{\s?([a-zA-Z]{1,12})\s?\}\s?(?:\\cdot|\\,|\\times)?\s?"
    r"\\(?:text|mathrm)\s?\{\s?([a-zA-Z]{1,12})\s?\}\s?\^\s?\{?-1\}?\s*$"
)
_UPRIGHT = re.compile(
    r"(?<=[\d}\s,;:~])\\mathrm\s?\{[~\s]*([a-zA-Z]{1,12}(?:\s?/\s?[a-zA-Z]{1,12})?)(\^\{?\d\}?)?\}"
)
_UPRIGHT_QUOTIENT = re.compile(
    r"(?<=[\d}\s,;:~])\\(?:mathrm|text)\s?\{[~\s]*([a-zA-Z]{1,12})\s?\}\s?/\s?"
    r"\\(?:mathrm|text)\s?\{[~\s]*([a-zA-Z]{1,12})\s?\}\s?(\^\s?\{?\s?\d\s?\}?)?"
)
_INVERSE_INSIDE = re.compile(
    r"\\(?:text|mathrm)\s?\{[~\s]*([a-zA-Z]{1,12})(?:\\[,;: ]|\s|~|\\cdot)+([a-zA-Z]{1,12})\s?"
    r"\^\s?\{?\s?-([123])\s?\}?\s?\}\s*$"
)
_OHMS = re.compile(r"(?<=\d)(?:\s|\\[ ,;~]|~)*(?:(k)|\\(?:text|mathrm)\{\s?(k)\s?\})?\\Omega\s*$")


def as_formula(text: str) -> str:
    """`text` without the words that say nothing, and with those that do as signs.

    >>> as_formula("\\\\text{exactly } 9"), as_formula("3 \\\\text{ to } 4"), as_formula("(1|2)")
    ('9', '3:4', '(1,2)')
    """
    if len(text) > 300:
        return text
    if "(" in text:
        text = in_parts(text) or text
    if "|" in text:
        text = _POINT.sub(r"(\1,\2)", text) if _POINT.fullmatch(text) else text
    if not _WORDS.search(text):
        return text
    if "Omega" in text:
        text = _OHMS.sub(lambda m: f" \\text{{ {'kiloohm' if m[1] or m[2] else 'ohm'}}}", text)
    if "frac" in text or "rm" in text or "text" in text:
        text = _units(text)
    introduction = _INTRODUCTION.match(text) if "?" not in text else None
    if introduction and (introduction["opening"] or not introduction["closing"]):
        opening = "" if introduction["closing"] else introduction["opening"]
        text = (opening or "") + text[introduction.end() :]
    text = stated(text) or text
    text = _ROUGHLY.sub("", _NEGATIVE.sub("-", text, count=1))
    half = _HALF.fullmatch(text)
    if half:
        return f"{half[1]}\\frac{{1}}{{2}}"
    plain = " ".join(_LAYOUT.sub(" ", _COMMAND.sub(r" \1 ", text)).replace("$", " ").split())
    ratio = _RATIO.fullmatch(plain)
    if ratio:
        return re.sub(r"\s?to\s?", ":", plain)
    compound = _COMPOUND.fullmatch(plain.lower())
    return (_total(compound) if compound else None) or text


def _units(text: str) -> str:
    """Units in fractions, with negative powers and in upright letters as words."""
    if "/" in text:
        text = _UPRIGHT_QUOTIENT.sub(_upright_quotient, text)
    quotient = _QUOTIENT.search(text)
    if quotient:
        above, below = quotient[1] or quotient[2], quotient[3] or quotient[4]
        upright = quotient[1] and quotient[3]
        if (upright or len(above + below) > 2) and measure(f"{above}/{below}"):
            return f"{text[: quotient.start()]}\\text{{ {above}/{below}}}"
    if "-" in text:
        text = _INVERSE_INSIDE.sub(_inside, text)
    inverse = _INVERSE.search(text)
    if inverse and measure(f"{inverse[1]}/{inverse[2]}"):
        return f"{text[: inverse.start()]}\\text{{ {inverse[1]}/{inverse[2]}}}"
    return _UPRIGHT.sub(_upright, text)


def _inside(match: re.Match[str]) -> str:
    power = f"^{match[3]}" if match[3] != "1" else ""
    known = measure(f"{match[1]}/{match[2]}{power}")
    return f"\\text{{ {match[1]}/{match[2]}{power}}}" if known else match[0]


def _upright_quotient(match: re.Match[str]) -> str:
    unit = f"{match[1]}/{match[2]}"
    return f"\\text{{ {unit}{match[3] or ''}}}" if measure(unit) else match[0]


def _upright(match: re.Match[str]) -> str:
    return f"\\text{{ {match[1]}}}{match[2] or ''}" if measure(match[1]) else match[0]


def _total(match: re.Match[str]) -> str | None:
    """``5 ft 6 in`` in the last of its units; None where they are not of one kind."""
    parts = [
        part for part in zip(match.groups()[::2], match.groups()[1::2], strict=True) if part[0]
    ]
    sizes = [measure(unit) for _, unit in parts]
    kinds = {size[0] for size in sizes if size is not None}
    if len(kinds) != 1 or None in sizes:
        return None
    lengths = [size[1] for size in sizes if size is not None]
    if sorted(set(lengths), reverse=True) != lengths:
        return None
    total = sum(Fraction(n) * size for (n, _), size in zip(parts, lengths, strict=True))
    value = Fraction(total) / lengths[-1]
    number = (
        str(value)
        if value.denominator == 1
        else f"\\frac{{{value.numerator}}}{{{value.denominator}}}"
    )
    return f"{number} \\text{{ {parts[-1][1]}}}"
