"""Texts without their disguise: the words and signs that say something, as people would read them.

Case, spacing, Unicode forms, invisible characters, quotes, sentence marks and markup differ between
copies of one question. Signs of arithmetic do not: `3-2` and `3+2` are two questions, `well-known`
and `well known` are one.
"""

import re
import unicodedata
from collections.abc import Sequence
from functools import lru_cache

_DASHES = str.maketrans(dict.fromkeys("‐‑‒–—―−﹘﹣－", "-"))
_INVISIBLE = re.compile("[\u00ad\u034f\u061c\u115f\u1160\u17b4\u17b5\u180b-\u180e\u200b-\u200f"
                        "\u202a-\u202e\u2060-\u206f\u3164\ufe00-\ufe0f\ufeff\uffa0]")  # fmt: skip
"""Characters without ink (Unicode's Default_Ignorable_Code_Point, but for tags and the like)."""
_APOSTROPHE = re.compile(r"(?<=[^\W\d_])['’ʼ`´](?=[^\W\d_])")
_THOUSANDS = re.compile(r"(?<=\d),(?=\d{3}(?!\d))")
_TEX_BORDER = re.compile(r"\\[()\[\]]|\$")
_BULLET = re.compile(r"\A\s*(?:[-*•#>]+\s+)+(?=[^\W\d_])")
_TOKEN = re.compile(r"\d+(?:\.\d+)*|[^\W\d_]+|[^\w\s]")
_WORD = re.compile(r"\d+(?:\.\d+)+|[^\W_]+")

_ALWAYS = frozenset("+=<>^%|&~\\@")
_BEFORE = frozenset("-*/([{")  # where what follows is part of a formula
_BEHIND = frozenset("*/!)]}")  # where what stands before is
_EITHER = _BEFORE | _BEHIND


def key_and_words(text: str) -> tuple[str, list[str]]:
    """What two copies of one text have in common, and its words and numbers alone.

    Words are "lowercase, no punctuation", as in GPT-3's appendix C. A text of nothing but marks is
    its own key.

    >>> key_and_words("What’s  (3−2) * 5X?")
    ('whats ( 3 - 2 ) * 5 x', ['whats', '3', '2', '5x'])
    >>> key_and_words('A well-known "fact": 1,000 men.')[0]
    'a well known fact 1000 men'
    """
    return text_key(text), _WORD.findall(_plain(text))


@lru_cache(maxsize=2**17)
def text_key(text: str) -> str:
    """What two copies of one text have in common. Several checks ask for it of the same rows."""
    return _key(_plain(text)) or text.strip()


def _plain(text: str) -> str:
    """The text in one Unicode form, without case, marks inside words and numbers, and markup."""
    if text.isascii():
        text = text.lower()
    else:
        text = unicodedata.normalize("NFKC", text.translate(_DASHES)).casefold()
        text = _INVISIBLE.sub("", unicodedata.normalize("NFKC", text))
    text = _TEX_BORDER.sub(" ", _BULLET.sub("", text))
    return _THOUSANDS.sub("", _APOSTROPHE.sub("", text))


def _key(plain: str) -> str:
    """Words, numbers and the signs that say something, with one space between."""
    tokens = _TOKEN.findall(plain)
    return " ".join(t for i, t in enumerate(tokens) if t[0].isalnum() or _counts(tokens, i))


def _counts(tokens: Sequence[str], index: int) -> bool:
    """Whether a mark says something where it stands."""
    token = tokens[index]
    if token in _EITHER:
        before = index > 0 and _in_formula(tokens[index - 1])
        after = index + 1 < len(tokens) and _in_formula(tokens[index + 1])
        return (after or token not in _BEFORE) and (before or token not in _BEHIND)
    # beyond ASCII: symbols, and marks, which are vowels in many scripts
    return token in _ALWAYS or (not token.isascii() and unicodedata.category(token)[0] in "SM")


def _in_formula(token: str) -> bool:
    """A number, a letter by itself, or another sign of a formula."""
    return token[0].isdigit() or (len(token) == 1 and token.isalpha()) or token in "+-\\([{)]}^"
