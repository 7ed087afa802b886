"""Rows whose question another set has too: equal, contained in it, or with 13 words in common.

The rule is that of GPT-3 (arXiv 2005.14165, appendix C), which lm-evaluation-harness and NeMo
Curator follow: 13 words in a row, in lower case and without punctuation, that are in the other set
as well. As in NeMo Curator (`max_matches`), 13 words that more than ten questions of the set have
are a form of words ("where m and n are relatively prime positive integers ...") and count for
nothing, unless the row has the other question whole. Texts of fewer words match only as a whole,
and so do languages that are written without spaces.
"""

import hashlib
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from pipeline.prompts.plain_words import key_and_words, text_key
from pipeline.records import Prompt

NGRAM = 13
MOST_SHARERS = 10
"""Questions of a set that may share an n-gram before it is a form of words."""

_MULTIPLIER = np.uint64(0x9E3779B97F4A7C15)  # odd: multiplying loses no bits

Kind = Literal["equal", "ngram"]


@dataclass(frozen=True, kw_only=True)
class Match:
    """A row, and the first row of the other set that has its question or a part of it."""

    kind: Kind
    row: Prompt
    other: Prompt


def find_matches(
    prompts: Sequence[Prompt], references: Mapping[str, Sequence[Prompt]]
) -> dict[str, list[Match]]:
    """By reference, the rows that it has too, in their order.

    A row counts once, for the first reference that has it.
    """
    keys, grams = _read(prompts)
    open_rows = set(range(len(prompts)))
    result: dict[str, list[Match]] = {}
    for name, others in references.items():
        their_keys, theirs = _read(others)
        pairs = _overlapping(keys, grams, theirs) | _equal(keys, their_keys)
        result[name] = [
            Match(kind=kind, row=prompts[row], other=others[other])
            for row, (kind, other) in sorted(pairs.items())
            if row in open_rows
        ]
        open_rows -= pairs.keys()
    return result


def equal_questions(prompts: Sequence[Prompt], others: Sequence[Prompt]) -> list[Match]:
    """The rows whose question is one of the others', however disguised."""
    pairs = _equal(*([text_key(asked(prompt)) for prompt in side] for side in (prompts, others)))
    return [
        Match(kind=kind, row=prompts[row], other=others[other])
        for row, (kind, other) in pairs.items()
    ]


def asked(prompt: Prompt) -> str:
    """The question with what was said before it, but for system messages."""
    before = [turn["content"] for turn in prompt.context if turn["role"] != "system"]
    return "\n".join([*before, prompt.question])


@dataclass(frozen=True, kw_only=True)
class _Ngrams:
    """The n-grams of a set of texts, as hashes; a text of fewer words has none."""

    texts: Sequence[str]  # words with one space between
    hashes: NDArray[np.uint64]
    rows: NDArray[np.int64]  # the text of each

    def first(self) -> dict[int, list[int]]:
        """Texts by the n-gram that they begin with."""
        rows, places = np.unique(self.rows, return_index=True)
        texts: dict[int, list[int]] = defaultdict(list)
        for row, place in zip(rows.tolist(), places.tolist(), strict=True):
            texts[int(self.hashes[place])].append(row)
        return texts


def _ngrams(texts: Sequence[Sequence[str]]) -> _Ngrams:
    """Rolling 64-bit hashes, alike in every process; for a million n-grams against as many others
    the chance of one false hit is one in 10 million."""
    codes: dict[str, int] = {}
    for words in texts:
        for word in words:
            if word not in codes:
                digest = hashlib.blake2b(word.encode(), digest_size=8).digest()
                codes[word] = int.from_bytes(digest, "little")
    flat = np.array([codes[word] for words in texts for word in words], dtype=np.uint64)
    rows = np.repeat(np.arange(len(texts)), [len(words) for words in texts])
    count = max(len(flat) - NGRAM + 1, 0)
    hashes = np.zeros(count, dtype=np.uint64)
    for offset in range(NGRAM):
        hashes = hashes * _MULTIPLIER + flat[offset : offset + count]
    inside = rows[:count] == rows[NGRAM - 1 : NGRAM - 1 + count]
    joined = [" ".join(words) for words in texts]
    return _Ngrams(texts=joined, hashes=hashes[inside], rows=rows[:count][inside])


def _read(prompts: Sequence[Prompt]) -> tuple[list[str], _Ngrams]:
    """The keys and the n-grams of questions."""
    texts = [key_and_words(asked(prompt)) for prompt in prompts]
    return [key for key, _ in texts], _ngrams([words for _, words in texts])


def _equal(keys: Sequence[str], others: Sequence[str]) -> dict[int, tuple[Kind, int]]:
    places: dict[str, int] = {}
    for place, other in enumerate(others):
        places.setdefault(other, place)
    return {row: ("equal", places[key]) for row, key in enumerate(keys) if key in places}


def _overlapping(
    keys: Sequence[str], grams: _Ngrams, theirs: _Ngrams
) -> dict[int, tuple[Kind, int]]:
    """Rows with an n-gram of the others that few rows share, or with another's text whole."""
    known, places = np.unique(theirs.hashes, return_index=True)
    hits = np.flatnonzero(np.isin(grams.hashes, known))
    pairs = list(zip(grams.rows[hits].tolist(), grams.hashes[hits].tolist(), strict=True))
    sharers = Counter(gram for _, gram in {(keys[row], gram) for row, gram in pairs})
    owners = dict(zip(known.tolist(), theirs.rows[places].tolist(), strict=True))
    starts = theirs.first()
    result: dict[int, tuple[Kind, int]] = {}
    for row, gram in pairs:
        if row in result:
            continue
        if sharers[gram] <= MOST_SHARERS:
            result[row] = ("ngram", owners[gram])
            continue
        text = f" {grams.texts[row]} "
        whole = [other for other in starts.get(gram, ()) if f" {theirs.texts[other]} " in text]
        if whole:
            result[row] = ("ngram", whole[0])
    return result
