"""Finding the one final answer in a completion, in time linear in its length.

Everything up to the last ``</think>`` is reasoning and does not count. After it the answer is, in
this order: what stands in ``\\boxed{}``; what follows "answer is", "Answer:", a line's "A:" or
``####``; the bare text. Different answers in the same place are several, and none is taken.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from itertools import pairwise
from typing import NamedTuple

from rewards.api import Sample
from rewards.maths.notation import WIDTHS
from rewards.text_format import CLOSE, OPEN

MAX_CHARS = 50_000
"""Longest text after the reasoning that is searched."""
MAX_SEVERAL = 4
"""So many answers in one place may turn out to be one value in several writings."""

_BOX = re.compile(r"\\(?:boxed|fbox)\s{0,3}\{(?:((?:[^{}\\]++|\\.|\{[^{}\\]*+\})*+)\})?", re.DOTALL)
"""A box with what is in it, where no braces stand within braces there; else as far as its brace."""
_BRACE = re.compile(r"\\.|[{}]", re.DOTALL)
_BETWEEN_BOXES = re.compile(r"[\s,;$.]*(?:and|or)?[\s,;$.]*", re.IGNORECASE)
_HASHES = re.compile(r"####")
_ANSWER_IS = re.compile(
    r"answer\s{0,3}(?:is\b|:|=)\s{0,3}:?(?:\s?(?:therefore|thus|hence|then|simply|just)\b,?)?"
)
_LINE_A = re.compile(r"a:(?![^\n]*\n\s{0,8}b[:.)])")
_CHINESE = re.compile(r"答案?\s{0,3}(?:是|为|為|:)\s{0,3}:?")
"""Markers in small letters; each begins with a literal, which is quick to look for."""
_CONNECTIVE = re.compile(r"^(?:so|thus|hence|therefore|then)\b[,:]?\s+(?=\S)", re.IGNORECASE)
_SAYS = re.compile(r"\w")
_SENTENCE_END = re.compile(r"[.!?](?=\s|$)|\n")
_MATH = re.compile(
    r"\$\$([^$]+)\$\$|(?<!\\)\$((?:[^$\\]|\\.)+)\$|\\\(([^\n]*?)\\\)|\\\[(.*?)\\\]", re.DOTALL
)
_PLAIN = (
    r"(?<![\w.])(?<!\d,)[-+]?\$?\d[\d,]*(?:\.\d+)?(?![\w.]*\w|\s?[\^_\\{]|[\u0300-\u036f\u200b-\u202e])%?"
    r"(?:\s(?:dozen|hundred|thousand|million|billion|trillion)\b)?"
)
_NUMBER = re.compile(_PLAIN)
_NEAR = re.compile(
    r"\b(?:at (?:least|most)|(?:more|less|fewer|greater|larger|smaller|higher|lower) than"
    rf"|over|under|above|below|between|up to|exceeds?)\s+(?:{_PLAIN})",
    re.IGNORECASE,
)
_NEGATED = re.compile(
    r"\b(?:not|cannot|never|neither|nor|wrong|incorrect)\b|n['’]t\b", re.IGNORECASE
)
_LATEX = re.compile(r"[\^_{}]|\\[A-Za-z(\[]")
_HEDGED = re.compile(r"\b(?:or|if|unless|maybe|perhaps|might|could|may)\b", re.IGNORECASE)
VALUE = rf"(?:\$[^$]+\$|\\\([^\n]*?\\\)|{_PLAIN})"
"""A formula or a plain number in prose, as a pattern."""
_SAID = re.compile(
    r"\b(?:is|are|was|were|be|equals?)\s+(?:(?:exactly|just|only|simply|precisely|equal to)\s+)?"
    rf"(?P<value>{VALUE})",
    re.IGNORECASE,
)
_AFTER = re.compile(
    r"\s*(?:[.!]?\s*$|,?\s(?:attained|achieved|reached|obtained|since|because)\b)", re.IGNORECASE
)
_COUNTED = re.compile(
    r"^(?:\W*(?:so|thus|hence|therefore|then)\W+)?there (?:is|are|were)\s+"
    rf"(?:(?:exactly|only|just|precisely|a total of)\s+)?(?P<value>{_PLAIN})\s+[a-z]{{3,}}",
    re.IGNORECASE,
)
_EXACTLY = re.compile(rf"(?:exactly|only|just|precisely)\s+(?P<value>{VALUE})[.!]?", re.IGNORECASE)


_CONTRAST = re.compile(
    rf"(?P<value>{VALUE})(?:,\s*|\s+)\(?(?:and\s+)?(?:not|rather than|instead of)\s+{VALUE}\)?"
    rf"|not\s+{VALUE},?\s+but\s+(?:rather\s+)?(?P<other>{VALUE})",
    re.IGNORECASE,
)


class FinalAnswer(NamedTuple):
    """The text of an answer, and how it was found; or why there is none."""

    text: str | None
    how: str
    problem: str = ""
    """``no_answer`` or ``several_answers`` when there is no text."""
    before: str = ""
    after: str = ""
    """The text around the answer, where it stands in prose."""
    several: tuple[str, ...] = ()
    """Answers that are written differently and so are none, unless all have the same value."""


def final_answer(sample: Sample) -> FinalAnswer:
    """The one final answer of a completion."""
    completion = sample.completion
    if CLOSE in completion:
        text = completion.rpartition(CLOSE)[2]
    elif OPEN in completion or sample.prompt.rstrip().endswith(OPEN):
        return FinalAnswer(None, "unfinished reasoning", "no_answer")
    else:
        text = completion
    return answer_in(text[-MAX_CHARS:].strip())


def answer_in(text: str) -> FinalAnswer:
    """The one final answer in a text without reasoning."""
    if not text:
        return FinalAnswer(None, "empty", "no_answer")
    if not text.isascii():
        text = text.translate(WIDTHS)
    boxes = _boxes(text) if "\\" in text else []
    if boxes:
        if len(boxes) > 1:
            boxes = [box for box in boxes if box[2].strip()] or boxes  # of an echoed instruction
        around = text[: boxes[-1][0]], text[boxes[-1][1] :]
        return _one(_joined(text, boxes), "boxed", around=around)
    pieces = _after_markers(text)
    if pieces:
        start, end = pieces[-1][1:]
        around = text[:start], text[end:]
        return _one([piece for piece, _, _ in pieces], "answer is", around=around)
    return _bare(text)


def _one(candidates: Sequence[str], how: str, *, around: tuple[str, str] = ("", "")) -> FinalAnswer:
    if len(candidates) > 1:
        several = {_written(candidate): candidate.strip() for candidate in candidates}
        if len(several) > 1:
            few = tuple(several.values()) if len(several) <= MAX_SEVERAL else ()
            return FinalAnswer(None, how, "several_answers", *around, few)
    text = candidates[-1].strip()
    if not text:
        return FinalAnswer(None, how, "no_answer")
    return FinalAnswer(text, how, before=around[0], after=around[1])


def _written(candidate: str) -> str:
    """The text without spaces, dollar signs and a full stop."""
    return re.sub(r"[\s$]|\\[,;:! ]|\.\s*$", "", candidate)


def _boxes(text: str) -> list[tuple[int, int, str]]:
    """(start, end, content) of each outermost box with balanced braces."""
    boxes: list[tuple[int, int, str]] = []
    position = 0
    for match in _BOX.finditer(text):
        start, end = match.span()
        if start < position:
            continue
        content = match[1]
        if content is None:
            brace = closing_brace(text, end - 1)
            if brace is None:
                return boxes
            content, end = text[end:brace], brace + 1
        boxes.append((start, end, content))
        position = end
    return boxes


def closing_brace(text: str, start: int) -> int | None:
    """Index of the brace that closes the one at `start`; escaped braces do not count."""
    first = text.find("}", start)
    if "{" not in text[start + 1 : first] and "\\" not in text[start:first]:
        return first if first >= 0 else None
    depth = 0
    for brace in _BRACE.finditer(text, start):
        depth += (brace[0] == "{") - (brace[0] == "}")
        if depth == 0:
            return brace.start()
    return None


def _joined(text: str, boxes: Sequence[tuple[int, int, str]]) -> list[str]:
    """Boxes that only ``,``, ``and`` or ``or`` separates are one answer that lists them."""
    answers = [boxes[0][2]]
    for before, box in pairwise(boxes):
        between = text[before[1] : box[0]]
        if len(between) < 40 and between.strip(" $.") and _BETWEEN_BOXES.fullmatch(between):
            answers[-1] += f", {box[2]}"
        else:
            answers.append(box[2])
    return answers


def _after_markers(text: str) -> list[tuple[str, int, int]]:
    """What follows each marker, up to the next one or the end of the sentence; where it stands."""
    marks = _marks(text)
    pieces = []
    for index, mark in enumerate(marks):
        stop = marks[index + 1].start() if index + 1 < len(marks) else len(text)
        rest = text[mark.end() : stop]
        piece = rest.strip(" \n\t*")
        if not _SAYS.search(piece) or piece.lower() in ("final", "the", "the final"):
            continue
        ending = _SENTENCE_END.search(piece)
        if ending and ending[0] == "?":  # "Is the answer 7? No."
            continue
        start = mark.end() + len(rest) - len(rest.lstrip(" \n\t*"))
        answer, length = _trimmed(piece)
        pieces.append((answer, start, start + length))
    return pieces


def _marks(text: str) -> list[re.Match[str]]:
    """Every marker in order: "answer" where a word begins, ``A:`` where a line does."""
    small = text.lower()
    if len(small) != len(text):  # of letters that are two when small
        small = "".join(c.lower() if c.isascii() else c for c in text)
    marks = list(_HASHES.finditer(small))
    for mark in _ANSWER_IS.finditer(small):
        before = small[max(0, mark.start() - 1) : mark.start()]
        if not (before.isalnum() or before == "_"):
            marks.append(mark)
    for mark in _LINE_A.finditer(small):
        before = small[max(0, mark.start() - 9) : mark.start()]
        if ("\n" in before or len(before) < 9) and not before.rpartition("\n")[2].strip():
            marks.append(mark)
    if not small.isascii():
        marks += _CHINESE.finditer(small)
    return sorted(marks, key=lambda mark: mark.start()) if len(marks) > 1 else marks


def _trimmed(piece: str) -> tuple[str, int]:
    """The first sentence, less its full stop, and its length in the text.

    A formula that opens it is taken whole. Of ``5, not 6`` it is 5, of ``not 6 but 5`` too.
    """
    opening = _MATH.match(piece)
    if opening:
        return next(group for group in opening.groups() if group is not None), opening.end()
    if piece.startswith(("\\begin", "\\left")):
        return piece, len(piece)
    sentence = _SENTENCE_END.split(piece, maxsplit=1)[0]
    answer = sentence.strip().strip("*").strip()
    contrast = _CONTRAST.fullmatch(answer) if " " in answer else None
    if contrast:
        answer = contrast["value"] or contrast["other"]
    return answer, len(sentence)


def _bare(text: str) -> FinalAnswer:
    """The whole text, or the one formula or number in its last line when that is a sentence."""
    if "\\begin" in text:
        return FinalAnswer(text, "bare")
    line = " ".join(text.rstrip().rpartition("\n")[2].strip().strip("*").split())
    words = re.findall(r"[A-Za-z]{3,}", re.sub(r"\\[A-Za-z]+", "", line))
    said = _said(line[:5000]) if words else []
    if said:
        return _one_of(said, line, "stated in the text")
    if len(words) < 3:
        return FinalAnswer(_CONNECTIVE.sub("", line).removesuffix("."), "bare")
    formulas = list(_MATH.finditer(line[:5000]))
    if formulas:
        return _one_of(formulas, line, "formula in the text")
    numbers = list(_NUMBER.finditer(line[:5000]))
    doubtful = _NEAR.search(line[:5000]) or _NEGATED.search(line[:5000]) or _LATEX.search(line)
    if numbers and not doubtful:
        return _one_of(numbers, line, "number in the text")
    return FinalAnswer(line, "bare")


def _one_of(matches: Sequence[re.Match[str]], line: str, how: str) -> FinalAnswer:
    """The one value among `matches`, with what stands around the last of them."""
    name = "value" if "value" in matches[-1].groupdict() else 0
    around = line[: matches[-1].start(name)], line[matches[-1].end(name) :]
    return _one([_unwrapped(match[name]) for match in matches], how, around=around)


def _said(line: str) -> list[re.Match[str]]:
    """What a sentence says that something is, or how many there are; all of it, if it says more."""
    if _NEGATED.search(line) or _HEDGED.search(line):
        return []
    exact = _EXACTLY.fullmatch(line) or _COUNTED.match(line)
    if exact:
        return [exact]
    statements = list(_SAID.finditer(line))
    if not any(_AFTER.match(line, match.end("value")) for match in statements):
        return []
    return statements


def _unwrapped(value: str) -> str:
    formula = _MATH.fullmatch(value)
    return (
        next(group for group in formula.groups() if group is not None)
        if formula
        else value.rstrip(",")
    )
