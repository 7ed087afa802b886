"""Other readings of a text that is no program as it stands: what stood around or between its lines.

A page's markup, line numbers, typographic quotes, no-break spaces, a session's prompts. They are
tried only where the text itself does not parse, so that no program that runs is changed.
"""

from __future__ import annotations

import html
import json
import re
import textwrap
from collections.abc import Callable, Iterator, Sequence

MAX_TEXT = 50_000
"""Characters of a text that is read otherwise."""
MAX_PARTS = 50
"""Parts of a text, from its end, that are tried as the program."""
_ELEMENT = re.compile(
    r"<(pre|code|source|python|program|solution|answer)\b[^<>]*>(.*?)(?:</\1>|\Z)", re.S | re.I
)
_BREAK = re.compile(r"<br\s*/?>\n?|</(?:p|div|li)>", re.IGNORECASE)
_TAG = re.compile(r"</?[a-zA-Z][^<>\n]*>")
_CDATA = re.compile(r"<!\[CDATA\[(.*?)\]\]>", re.DOTALL)
_SPAN = re.compile(r"(?<!`)(`{1,3})(?!`)(.+?)(?<!`)\1(?!`)", re.DOTALL)
_LANGUAGE = re.compile(r"\A(?:python3?|py)\s", re.IGNORECASE)
_QUOTED_FENCE = re.compile(r"^[ \t]*'''[ \t]*(?:python3?|py)?[ \t]*\n(.*?)^[ \t]*'''", re.M | re.S)
_HERE = re.compile(r"<<-?[ \t]*['\"]?(\w+)['\"]?[^\n]*\n")
_FENCES = re.compile(r"\A\s*(?:`{3,}|~{3,})[\w+-]*[ \t]*\n|^[ \t]*(?:`{3,}|~{3,})\s*\Z", re.M)
_NUMBER = re.compile(r"[ \t]*\d+(?:[ \t]*[:|.)]|(?=[ \t]))(?:[ \t]|$)?")
_TYPED = re.compile(r"[ \t]*(?:>>>|\.\.\.)(?: (?P<code>.*)|)$")
_ESCAPED = re.compile(r"\\([_*\[\]<>#])")
_LETTERS = {
    "\u00a0": " ", "\u2007": " ", "\u202f": " ", "\u3000": "  ", "\u200b": "", "\u200c": "",
    "\u200d": "", "\u2060": "", "\ufeff": "", "\u00ad": "",
    "\u201c": '"', "\u201d": '"', "\u201e": '"', "\u2018": "'", "\u2019": "'", "\u201a": "'",
    "\u2010": "-", "\u2011": "-", "\u2012": "-", "\u2013": "-", "\u2212": "-",
    "\u00d7": "*", "\u2264": "<=", "\u2265": ">=", "\u2260": "!=",
}  # fmt: skip
_TYPED_AS = str.maketrans(
    {**_LETTERS, **{chr(0xFEE0 + code): chr(code) for code in range(0x21, 0x7F)}}
)
"""What a page, a word processor or an input method writes in place of Python's own characters."""


def other_reading(text: str, programs: Sequence[str], fits: Callable[[str], bool]) -> str:
    """The first reading that fits, of what may be the program and of parts of the text.

    Returns the first program where none does.
    """
    if max(len(programs[0]), len(text)) > MAX_TEXT:
        return programs[0]
    wholes = (*_elements(text), *programs, *_strings(programs[0]), *_parts(text))
    for whole in wholes:
        for reading in _cleaned(whole):
            if fits(reading):
                return reading
    return programs[0]


def _elements(text: str) -> Iterator[str]:
    """What stands in the elements of a page, the last first."""
    for pattern, group in ((_ELEMENT, 2), (_CDATA, 1)):
        matches = list(pattern.finditer(text))[-MAX_PARTS:]
        yield from (match[group] for match in reversed(matches))


def _parts(text: str) -> Iterator[str]:
    """Parts of a text that may be its program, the last of a kind first."""
    kinds = [
        [match[1] for match in _QUOTED_FENCE.finditer(text)],
        [_LANGUAGE.sub("", match[2]) for match in _SPAN.finditer(text)],
        [_session(text)],
        _indented(text),
    ]
    for kind in kinds:
        yield from reversed(kind[-MAX_PARTS:])


def _cleaned(code: str) -> Iterator[str]:
    """The code, step by step without what is no Python."""
    steps: list[Callable[[str], str]] = [
        _unquoted, _inside, _here_document, _added, as_typed, textwrap.dedent,
        _without_markup, as_typed, _session, _unnumbered, textwrap.dedent,
        lambda code: _ESCAPED.sub(r"\1", code), _lines,
    ]  # fmt: skip
    yield code
    for step in steps:
        code, before = step(code), code
        if code != before:
            yield code


def as_typed(code: str) -> str:
    """The text with Python's own characters for what is written in their place."""
    return code.translate(_TYPED_AS)


def _without_markup(code: str) -> str:
    """Without a page's tags and entities."""
    if re.search(r"<(?:span|br|div|code|p)\b", code):
        code = _TAG.sub("", _BREAK.sub("\n", code))
    return html.unescape(code)


def _unquoted(code: str) -> str:
    """Without the marks of a quotation, where all lines have one."""
    lines = code.strip().splitlines()
    if not all(line.startswith(">") and not line.startswith(">>>") for line in lines):
        return code
    return "".join(f"{line[1:].removeprefix(' ')}\n" for line in lines)


def _inside(code: str) -> str:
    """Without a second fence within the first."""
    return _FENCES.sub("", code)


def _here_document(code: str) -> str:
    """What a shell command writes into a file."""
    start = _HERE.search(code)
    if start is None:
        return code
    end = re.compile(rf"^{start[1]}\b", re.MULTILINE).search(code, start.end())
    return code[start.end() : end.start()] if end else code


def _added(code: str) -> str:
    """The new file of a patch."""
    lines = code.splitlines()
    if not re.match(r"(?:diff |--- |\+\+\+ |@@ )", code.lstrip()):
        return code
    new = [line[1:] for line in lines if line[:1] in ("+", " ") and not line.startswith("+++")]
    return "".join(f"{line}\n" for line in new)


def _session(code: str) -> str:
    """What was typed in a session."""
    lines = [_TYPED.match(line) for line in code.splitlines()]
    if not any(line and line[0].lstrip().startswith(">>>") for line in lines):
        return code
    return "".join(f"{line['code'] or ''}\n" for line in lines if line)


def _unnumbered(code: str) -> str:
    """Without the numbers in front of all lines."""
    lines = [line for line in code.splitlines() if line.strip()]
    marks = [_NUMBER.match(line) for line in lines]
    if not lines or not all(marks):
        return code
    return "".join(
        f"{line[mark.end() :]}\n" for line, mark in zip(lines, marks, strict=True) if mark
    )


def _lines(code: str) -> str:
    """A text on one line in which ``\\n`` stands for the ends of lines."""
    return code.replace("\\n", "\n") if "\\n" in code and "\n" not in code.strip() else code


def _strings(text: str) -> list[str]:
    """The texts of JSON, the last first: of a row of APPS that are its solutions."""
    try:
        table = json.loads(text)
    except (ValueError, RecursionError):
        return []
    values = list(table.values()) if isinstance(table, dict) else table
    values = values if isinstance(values, list) else [values]
    return [value for value in reversed(values) if isinstance(value, str)]


def _indented(text: str) -> list[str]:
    """Stretches of indented lines among prose."""
    blocks = re.findall(r"(?:^(?: {4}|\t)[^\n]*\n(?:[ \t]*\n)*)+", text + "\n", re.MULTILINE)
    return [textwrap.dedent(block) for block in blocks]
