"""Finding the one final answer in a completion, in time linear in its length.

Everything up to the last ``</think>`` is reasoning and does not count. After it the answer is, in
this order: what stands in ``\\boxed{}``; what follows "answer is", "Answer:", a line's "A:" or
``####``; the bare text. Different answers in the same place are several, and none is taken.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

from rewards.api import Sample
from rewards.maths.notation import WIDTHS
from rewards.text_format import CLOSE, OPEN

MAX_CHARS = 50_000
"""Longest text after the reasoning that is searched."""

_BOX = re.compile(r"\\(?:boxed|fbox)\s{0,3}(?=\{)")
_BETWEEN_BOXES = re.compile(r"[\s,;$.]*(?:and|or)?[\s,;$.]*", re.IGNORECASE)
_MARKER = re.compile(
    r"####|\banswer\s{0,3}(?:is\b|:|=)\s{0,3}:?|^\s{0,8}A:(?![^\n]*\n\s{0,8}B[:.)])|答案?\s{0,3}(?:是|为|為|:)\s{0,3}:?",
    re.IGNORECASE | re.MULTILINE,
)
_SENTENCE_END = re.compile(r"[.!?](?=\s|$)|\n")
_MATH = re.compile(
    r"\$\$([^$]+)\$\$|(?<!\\)\$((?:[^$\\]|\\.)+)\$|\\\(([^\n]*?)\\\)|\\\[(.*?)\\\]", re.DOTALL
)
_PLAIN = (
    r"(?<![\w.])[-+]?\$?\d[\d,]*(?:\.\d+)?(?![\w.]*\w|\s?[\^_\\{]|[\u0300-\u036f\u200b-\u202e])%?"
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
_VALUE = rf"(?:\$[^$]+\$|\\\([^\n]*?\\\)|{_PLAIN})"
_SAID = re.compile(
    r"\b(?:is|are|was|were|be|equals?)\s+(?:(?:exactly|just|only|simply|precisely|equal to)\s+)?"
    rf"(?P<value>{_VALUE})",
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
_EXACTLY = re.compile(rf"(?:exactly|only|just|precisely)\s+(?P<value>{_VALUE})[.!]?", re.IGNORECASE)


@dataclass(frozen=True)
class FinalAnswer:
    """The text of an answer, and how it was found; or why there is none."""

    text: str | None
    how: str
    problem: str = ""
    """``no_answer`` or ``several_answers`` when there is no text."""


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
    boxes = _boxes(text)
    boxes = [box for box in boxes if box[2].strip()] or boxes  # of an echoed instruction
    if boxes:
        return _one(_joined(text, boxes), "boxed")
    after = _after_markers(text)
    if after:
        return _one(after, "answer is")
    return _bare(text)


def _one(candidates: Sequence[str], how: str) -> FinalAnswer:
    distinct = {re.sub(r"[\s$]|\\[,;:! ]|\.\s*$", "", candidate) for candidate in candidates}
    if len(distinct) > 1:
        return FinalAnswer(None, how, "several_answers")
    text = candidates[-1].strip()
    return FinalAnswer(text, how) if text else FinalAnswer(None, how, "no_answer")


def _boxes(text: str) -> list[tuple[int, int, str]]:
    """(start, end, content) of each outermost box with balanced braces."""
    boxes, position = [], 0
    for match in _BOX.finditer(text):
        if match.start() < position:
            continue
        end = closing_brace(text, match.end())
        if end is None:
            return boxes
        boxes.append((match.start(), end + 1, text[match.end() + 1 : end]))
        position = end
    return boxes


def closing_brace(text: str, start: int) -> int | None:
    """Index of the brace that closes the one at `start`; escaped braces do not count."""
    depth, index = 0, start
    while index < len(text):
        character = text[index]
        if character == "\\":
            index += 2
            continue
        depth += (character == "{") - (character == "}")
        if depth == 0:
            return index
        index += 1
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


def _after_markers(text: str) -> list[str]:
    """What follows each marker, up to the next one or the end of the sentence."""
    marks = list(_MARKER.finditer(text))
    pieces = []
    for index, mark in enumerate(marks):
        stop = marks[index + 1].start() if index + 1 < len(marks) else len(text)
        piece = text[mark.end() : stop].strip(" \n\t*")
        if not re.search(r"\w", piece) or piece.lower() in ("final", "the", "the final"):
            continue
        ending = _SENTENCE_END.search(piece)
        if ending and ending[0] == "?":  # "Is the answer 7? No."
            continue
        pieces.append(_trimmed(piece))
    return pieces


def _trimmed(piece: str) -> str:
    """The first sentence, less its full stop; a formula that opens it is taken whole."""
    opening = _MATH.match(piece)
    if opening:
        return next(group for group in opening.groups() if group is not None)
    if piece.startswith(("\\begin", "\\left")):
        return piece
    sentence = _SENTENCE_END.split(piece, maxsplit=1)[0]
    return sentence.strip().strip("*").strip()


def _bare(text: str) -> FinalAnswer:
    """The whole text, or the one formula or number in its last line when that is a sentence."""
    if "\\begin" in text:
        return FinalAnswer(text, "bare")
    line = " ".join(text.rstrip().rpartition("\n")[2].strip().strip("*").split())
    words = re.findall(r"[A-Za-z]{3,}", re.sub(r"\\[A-Za-z]+", "", line))
    said = _said(line[:5000]) if words else []
    if said:
        return _one(said, "stated in the text")
    if len(words) < 3:
        return FinalAnswer(line.removesuffix("."), "bare")
    formulas = [next(g for g in match if g) for match in _MATH.findall(line[:5000])]
    if formulas:
        return _one(formulas, "formula in the text")
    numbers = _NUMBER.findall(line[:5000])
    doubtful = _NEAR.search(line[:5000]) or _NEGATED.search(line[:5000]) or _LATEX.search(line)
    if numbers and not doubtful:
        return _one(numbers, "number in the text")
    return FinalAnswer(line, "bare")


def _said(line: str) -> list[str]:
    """What a sentence says that something is, or how many there are; all of it, if it says more."""
    if _NEGATED.search(line) or _HEDGED.search(line):
        return []
    exact = _EXACTLY.fullmatch(line) or _COUNTED.match(line)
    if exact:
        return [_unwrapped(exact["value"])]
    statements = list(_SAID.finditer(line))
    if not any(_AFTER.match(line, match.end("value")) for match in statements):
        return []
    return [_unwrapped(match["value"]) for match in statements]


def _unwrapped(value: str) -> str:
    formula = _MATH.fullmatch(value)
    return (
        next(group for group in formula.groups() if group is not None)
        if formula
        else value.rstrip(",")
    )
