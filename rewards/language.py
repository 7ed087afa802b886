"""Language consistency of the reasoning, as DeepSeek-R1 rewarded it (arXiv 2501.12948, 2.3.2)."""

from __future__ import annotations

import re
from collections.abc import Iterator

from rewards.api import Reward, Sample, reward
from rewards.text_format import CLOSE, reasoning_and_answer

_NO_PROSE = re.compile(
    r"```.*?(?:```|\Z)|\$\$[^$]*\$\$|\$[^$\n]*\$|\\[A-Za-z]+(?:\{[^{}]*\})?|https?://\S+|<[^<>\s]{1,20}>",
    re.DOTALL,
)
_SEGMENT_END = re.compile(r"(?<=[.!?;:。!?;:])\s*|\n+")
_UNDETECTABLE = re.compile(r"[\x00-\x1f\x7f-\x9f\ud800-\udfff\ufdd0-\ufdef\ufffe\uffff]")
_LETTERS = re.compile(r"[^\W\d_]+(?:['’-][^\W\d_]+)*")

_SCRIPTS = {
    "Latin": "A-Za-zªºÀ-ʯᴀ-ᶿḀ-ỿff-stA-Za-z",
    "Greek": "Ͱ-Ͽἀ-῿",
    "Cyrillic": "Ѐ-ԯᲀ-᲏ⷠ-ⷿ",
    "Hebrew": "֐-׿",
    "Arabic": "؀-ۿݐ-ݿࢠ-ࣿﭐ-﷿ﹰ-﻿",
    "Devanagari": "ऀ-ॿ",
    "Thai": "฀-๿",
    "Kana": "぀-ヿㇰ-ㇿ",
    "Han": "㐀-䶿一-鿿豈-﫿",
    "Hangul": "ᄀ-ᇿ㄰-㆏가-힯",
}
_RUN = re.compile("|".join(f"(?P<{name}>[{ranges}]+)" for name, ranges in _SCRIPTS.items()))
_WRITTEN_IN = {
    "zh": {"Han"}, "ja": {"Han", "Kana"}, "ko": {"Hangul"}, "th": {"Thai"}, "el": {"Greek"},
    "ru": {"Cyrillic"}, "uk": {"Cyrillic"}, "bg": {"Cyrillic"}, "be": {"Cyrillic"},
    "mk": {"Cyrillic"}, "sr": {"Cyrillic", "Latin"}, "kk": {"Cyrillic"}, "mn": {"Cyrillic"},
    "he": {"Hebrew"}, "yi": {"Hebrew"}, "ar": {"Arabic"}, "fa": {"Arabic"}, "ur": {"Arabic"},
    "hi": {"Devanagari"}, "mr": {"Devanagari"}, "ne": {"Devanagari"},
}  # fmt: skip
_ALIASES = {"iw": "he", "nb": "no", "nn": "no", "jw": "jv", "zh-Hant": "zh", "zh-hant": "zh"}
_CHARACTERS_PER_WORD = {"Han": 2, "Kana": 2, "Thai": 4}
"""Scripts without spaces: that many characters count as one word."""


@reward(
    version="1",
    isolation="process",
    cpu_s=5.0,
    deterministic=True,
    timeout_value=0.0,
    verdicts=("consistent", "mixed", "no_words"),
)
def language(sample: Sample, *, target: str = "en") -> Reward:
    """Share of the reasoning's words that are in the target language, from 0.0 to 1.0.

    Formulas, LaTeX commands, code blocks and links are left out. A word is a run of two or more
    letters (one letter is a variable); where a script has no spaces, two characters of Chinese or
    Japanese, or four of Thai, are one word. A word in a script that the target language does not
    use is foreign. The others take the language of their sentence or line, as CLD2 detects it
    reliably, and where that is too short to tell, that of the whole reasoning; the benefit of the
    doubt goes to the target. Text without words is consistent. Without tags the whole completion
    is the reasoning.

    Verdicts: consistent, mixed, no_words.

    Args:
        target: ISO 639-1 code.

    Raises:
        ValueError: when CLD2 knows no such language.
    """
    import pycld2  # compiled; only in the process that checks

    target = _code(target)
    if target not in {_code(code) for _, code in pycld2.LANGUAGES}:
        raise ValueError(f"no language {target!r}: give an ISO 639-1 code such as en or zh")
    text = sample.completion
    if CLOSE in text:
        text = reasoning_and_answer(sample)[0]
    prose = _NO_PROSE.sub(" ", text)
    scripts = _WRITTEN_IN.get(target, {"Latin"})
    overall = _detected(prose, scripts)
    words = in_target = 0
    for segment in _SEGMENT_END.split(prose):
        own, foreign = _counts(segment, scripts)
        words += own + foreign
        if own and (_detected(segment, scripts) or overall or target) == target:
            in_target += own
    share = in_target / words if words else 1.0
    verdict = "no_words" if not words else "consistent" if share == 1.0 else "mixed"
    return Reward(value=share, verdict=verdict, metrics={"words": float(words)})


def _code(code: str) -> str:
    return _ALIASES.get(code, code)


def _counts(segment: str, scripts: set[str]) -> tuple[int, int]:
    """(words in one of the scripts, words in another)."""
    own = foreign = 0
    for script, words in _words(segment):
        if script in scripts:
            own += words
        else:
            foreign += words
    return own, foreign


def _words(segment: str) -> Iterator[tuple[str, int]]:
    """(script, number of words) for each run of letters that is long enough to be a word."""
    for letters in _LETTERS.finditer(segment):
        for run in _RUN.finditer(letters[0]):
            script = run.lastgroup or ""
            per_word = _CHARACTERS_PER_WORD.get(script)
            if per_word is not None:
                yield script, -(-len(run[0]) // per_word)
            elif len(letters[0]) > 1:
                yield script, 1
                break


def _detected(text: str, scripts: set[str]) -> str | None:
    """Language of what `text` holds in `scripts`, or None when CLD2 is not sure."""
    import pycld2

    words = " ".join(
        letters[0]
        for letters in _LETTERS.finditer(_UNDETECTABLE.sub(" ", text))
        if all(run.lastgroup in scripts for run in _RUN.finditer(letters[0]))
    )
    if not words:
        return None
    _, _, guesses = pycld2.detect(words)
    code = guesses[0][1]
    return None if code == "un" else _code(code)
