"""Sentences that say one value, and answers in parts, as the formula that they say."""

from __future__ import annotations

import re

MAX_CHARS = 300
_COMMAND = re.compile(r"\\(?:text|textbf|textit|textrm|mathrm|mbox)\s?\{([^{}]*)\}")
_NEEDED = re.compile(r"\b(?:is|are|equals?)\b")
_VALUE = r"[-+$\\\d(\[{](?:\\[A-Za-z]+|[^A-Za-z]|(?<![A-Za-z])[A-Za-z]{1,2}(?![A-Za-z]))*?"
_SENTENCE = re.compile(
    r"(?:so|thus|hence|therefore)?,?\s*(?P<lead>(?:the|there|this|it|so|we|each|their|his|her|its)\b"
    r"(?:[ ,]+(?:[A-Za-z]+|\$[A-Za-z]{1,3}\$)){0,10}?)\s+(?:is|are|equals?|is equal to)\s+"
    rf"(?:(?:exactly|only|just|precisely|equal to)\s+)?(?P<value>{_VALUE})"
    r"(?:\s+(?P<tail>(?:at|attained|achieved|reached)\b.*|[A-Za-z]+(?:\s[A-Za-z]+){0,4}))?\s*\.?",
    re.IGNORECASE | re.DOTALL,
)
_RESERVED = re.compile(
    r"\b(?:not|no|never|neither|nor|or|but|if|unless|except|than|least|most|about|between|false"
    r"|wrong|approximately|nearly|almost|around|when|where|for|and|less|more|incorrect|over|under)\b",
    re.IGNORECASE,
)
_AT = re.compile(r"(?:at|attained|achieved|reached)\b", re.IGNORECASE)
_SERIES = (("a", "b", "c", "d", "e"), ("i", "ii", "iii", "iv"), ("1", "2", "3", "4", "5"))
_FIRST = re.compile(r"\s*(?:\\text\s?\{\s*)?\((?:a|i|1)\)")


def stated(text: str) -> str | None:
    """The value that "The minimum is 4" or "There are exactly 5 such pairs" says, or None.

    >>> stated("\\\\text{The minimum is } 4 \\\\text{ at } x=2")
    '4'
    >>> stated("There are at least 5 roots") is None
    True
    """
    if len(text) > MAX_CHARS or not _NEEDED.search(text):
        return None
    match = _SENTENCE.fullmatch(" ".join(_COMMAND.sub(r" \1 ", text).split()))
    if match is None or _RESERVED.search(match["lead"]):
        return None
    value, tail = match["value"].strip(" $,"), match["tail"]
    if tail is None or _AT.match(tail):
        return value
    return None if _RESERVED.search(tail) else f"{value} \\text{{ {tail}}}"


def in_parts(text: str) -> str | None:
    """``(a) 5 (b) 6`` as the tuple ``(5, 6)``; None where there are no such parts.

    >>> in_parts("(a) 5 (b) 6"), in_parts("f(a) + (b)")
    ('(5, 6)', None)
    """
    if len(text) > MAX_CHARS or not _FIRST.match(text):
        return None
    plain = " ".join(_COMMAND.sub(r" \1 ", text).split())
    for names in _SERIES:
        parts = _split(plain, names)
        if parts is not None:
            return f"({', '.join(parts)})"
    return None


def _split(text: str, names: tuple[str, ...]) -> list[str] | None:
    """What follows each mark, in order; None unless there are two, each after a space or comma."""
    parts: list[str] = []
    rest = text
    for index, name in enumerate(names):
        before, mark, after = rest.partition(f"({name})")
        if not mark or (index and before[-1:] not in (" ", ",", ";")):
            break
        if index or before.strip():
            parts.append(before)
        rest = after
    parts = [part.strip(" ,;.$") for part in (*parts, rest)]
    whole = len(parts) > 1 and all(parts) and text.startswith(f"({names[0]})")
    if not whole or any(re.search(r"[,;]|\b(?:and|or)\b", part) for part in parts):
        return None
    return parts
