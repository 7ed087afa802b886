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
_WHOLE = {"real", "integer", "complex"}
_CONSTANTS = {"C", "K", "A", "c", "k", "a"}
_RELATIONS = {"\\geq": ">=", "\\ge": ">=", "\\gt": ">", "\\le": "<=", "\\leq": "<=", "\\in": "in"}


def declared(text: str) -> tuple[str, str, str] | None:
    """What stands before the declaration of a parameter, its letter and where it is from."""
    if len(text) > 300 or not _OPENING.search(text):
        return None
    plain = " ".join(_LAYOUT.sub(" ", _COMMAND.sub(r" \1 ", text)).split()).replace(
        "\\mathbb ", "\\mathbb"
    )
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

    None unless each declares one parameter, of the same domain, that it holds; or one of them does
    that, and the other has one letter more in its place, of those that constants have.
    """
    ours, theirs = declared(gold), declared(answer)
    if ours is None and theirs is None:
        return None
    domains = {each[2] for each in (ours, theirs) if each}
    if len(domains) > 1 or (None in (ours, theirs) and not domains <= _WHOLE):
        return None
    try:
        one, two = parse(ours[0] if ours else gold), parse(theirs[0] if theirs else answer)
    except (Unparsable, TooComplex, RecursionError):
        return None
    old = theirs[1] if theirs else _extra(two, one, {ours[1]} if ours else set())
    new = ours[1] if ours else old if old in symbols(one) else _extra(one, two, {old})
    if new not in symbols(one) or old not in symbols(two):
        return None
    if new != old and (new in symbols(two) or old in symbols(one)):
        return None
    return one, renamed(two, {old: new})


def _extra(node: Node, other: Node, aside: set[str]) -> str:
    """The one letter that only `node` has, where constants have such names; else nothing."""
    letters = symbols(node) - symbols(other) - aside
    (letter,) = letters if len(letters) == 1 else ("",)
    return letter if letter in _CONSTANTS and len(symbols(node)) > 1 else ""
