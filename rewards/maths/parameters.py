"""Free parameters: ``c x`` for any real c is ``k x`` with k real."""

from __future__ import annotations

import re

from rewards.maths.parser import parse
from rewards.maths.tree import Node, TooComplex, Unparsable, renamed, symbols

_COMMAND = re.compile(r"\\(?:text|textrm|mathrm|mbox)\s?\{([^{}]*)\}")
_LAYOUT = re.compile(r"\\[,;:! ]|\\q?quad\b|[$~]")
_SORT = r"(?:positive |negative |non-?negative |nonzero )?(?:real|integer|rational|complex|natural)"
_THING = r"(?: ?(?:number|constant|value)s?)?"
_FROM = r" ?(?P<r{0}>\\(?:in|ge|geq|gt|le)\b|[<>]=?) ?(?P<d{0}>[^\s,;]{{1,20}})"
_DECLARED = re.compile(
    r"\s*(?:[,;(]\s?)?(?:(?:for|with) (?:any|all|every|each|some|arbitrary|an arbitrary|a)"
    rf"(?: (?P<a>{_SORT}s?))?{_THING}(?: of)? (?P<la>[A-Za-z])(?:{_FROM.format('a')})?"
    r"|(?:where|with) (?P<lb>[A-Za-z]) (?:is|being) (?:an? |any )?(?:arbitrary |fixed |free )?"
    rf"(?P<b>{_SORT})?{_THING}"
    rf"|(?:for |where |with )?(?P<lc>[A-Za-z]){_FROM.format('c')})\s?\)?\s?\.?\s*"
)
_OPENING = re.compile(r"[,;(]|\b(?:for|where|with)\b")
_DOMAINS = {
    "\\mathbb{R}": "real", "\\mathbbR": "real", "\\mathbb{Z}": "integer", "\\mathbbZ": "integer",
    "\\mathbb{Q}": "rational", "\\mathbb{C}": "complex", "\\mathbb{N}": "natural", "ℝ": "real",
    "ℤ": "integer", "ℕ": "natural", "R": "real", "Z": "integer",
}  # fmt: skip
_RELATIONS = {"\\geq": ">=", "\\ge": ">=", "\\gt": ">", "\\le": "<=", "\\leq": "<=", "\\in": "in"}


def declared(text: str) -> tuple[str, str, str] | None:
    """What stands before the declaration of a parameter, its letter and where it is from."""
    if len(text) > 300 or not _OPENING.search(text):
        return None
    plain = " ".join(_LAYOUT.sub(" ", _COMMAND.sub(r" \1 ", text)).split())
    for start in _OPENING.finditer(plain):
        match = _DECLARED.fullmatch(plain, start.start())
        head = plain[: start.start()].rstrip(" ,;(")
        if match and head:
            letter = match["la"] or match["lb"] or match["lc"]
            return head, letter, _domain(match)
    return None


def _domain(match: re.Match[str]) -> str:
    relation, right = match["ra"] or match["rc"], match["da"] or match["dc"]
    if relation is None:
        return (match["a"] or match["b"] or "real").removesuffix("s")
    right = right.rstrip(".")
    relation = _RELATIONS.get(relation, relation)
    return _DOMAINS.get(right, right) if relation == "in" else relation + right


def with_one_letter(gold: str, answer: str) -> tuple[Node, Node] | None:
    """Trees of both without their declarations, the answer's parameter called as the gold's.

    None unless each declares one parameter, of the same domain, that it holds.
    """
    ours, theirs = declared(gold), declared(answer)
    if ours is None or theirs is None or ours[2] != theirs[2]:
        return None
    try:
        one, two = parse(ours[0]), parse(theirs[0])
    except (Unparsable, TooComplex, RecursionError):
        return None
    if ours[1] not in symbols(one) or theirs[1] not in symbols(two):
        return None
    if ours[1] != theirs[1] and (ours[1] in symbols(two) or theirs[1] in symbols(one)):
        return None
    return one, renamed(two, {theirs[1]: ours[1]})
