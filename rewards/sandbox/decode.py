"""Decoding what a sandboxed program answered, strictly, into plain Python data."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from typing import Any

MAX_DEPTH = 210


class NotPlain(ValueError):
    """The bytes are no encoded value."""


class Opaque:
    """Stands for something that is no plain data; equal to nothing, itself included."""

    def __init__(self, kind: str = "object") -> None:
        self.kind = kind[:60]
        """The name of its class, as the program says."""

    def __repr__(self) -> str:
        return f"a {self.kind}, which is no plain data"

    def __eq__(self, other: object) -> bool:
        return False

    __hash__ = object.__hash__


@dataclass(frozen=True, eq=False)
class Items:
    """What yields items without being a list: an iterator (spent by now), a view, a deque."""

    kind: str
    """``iterator``, ``dict_keys``, ``dict_values``, ``dict_items`` or ``deque``."""
    items: list[Any]

    def __eq__(self, other: object) -> bool:
        """As in Python: no list is equal to it."""
        if not isinstance(other, Items) or self.kind != other.kind or self.kind == "iterator":
            return False
        return self.items == other.items

    __hash__ = None  # type: ignore[assignment]


_SOURCES = {
    "iterator": "iter({})",
    "dict_keys": "dict.fromkeys({}).keys()",
    "dict_values": "dict(enumerate({})).values()",
    "dict_items": "dict({}).items()",
    "deque": "__import__('collections').deque({})",
}


def decoded(body: bytes) -> Any:
    """The JSON message in `body`.

    Raises:
        NotPlain: for anything else.
    """
    try:
        return json.loads(body)
    except (ValueError, RecursionError) as error:
        raise NotPlain(str(error)) from error


def value_of(message: Any, *, depth: int = 0) -> Any:
    """The plain value that an encoded one stands for.

    Raises:
        NotPlain: for a malformed one.
    """
    if depth > MAX_DEPTH:
        raise NotPlain("nested too deeply")
    if message is None or isinstance(message, (bool, str)):
        return message
    match message:
        case ["int", str(digits)] if re.fullmatch(r"-?[0-9a-f]+", digits):
            return int(digits, 16)
        case ["float", str(text)]:
            return _float(text)
        case ["complex", str(real), str(imaginary)]:
            return complex(_float(real), _float(imaginary))
        case ["bytes", str(digits)] if re.fullmatch(r"(?:[0-9a-f]{2})*", digits):
            return bytes.fromhex(digits)
        case [("list" | "tuple" | "set" | "frozenset") as kind, list(items)]:
            values = [value_of(item, depth=depth + 1) for item in items]
            return _collected(kind, values)
        case ["dict", list(items)]:
            return _dictionary(items, depth=depth + 1)
        case [str(kind), list(items)] if kind in _SOURCES:
            return Items(kind, [value_of(item, depth=depth + 1) for item in items])
        case ["range", limits]:
            return _range(value_of(limits, depth=depth + 1))
        case ["opaque", str(kind)]:
            return Opaque(kind)
    raise NotPlain("no encoded value")


def _float(text: str) -> float:
    try:
        return float(text)
    except ValueError as error:
        raise NotPlain(f"no number: {text[:40]}") from error


def _range(limits: Any) -> range:
    match limits:
        case [int(start), int(stop), int(step)] if step:
            return range(start, stop, step)
    raise NotPlain("no range")


def _collected(kind: str, items: list[Any]) -> Any:
    try:
        return {"list": list, "tuple": tuple, "set": set, "frozenset": frozenset}[kind](items)
    except TypeError as error:  # an unhashable member
        raise NotPlain(str(error)) from error


def _dictionary(items: list[Any], *, depth: int) -> dict[Any, Any]:
    table = {}
    for item in items:
        match item:
            case [key, value]:
                try:
                    table[value_of(key, depth=depth)] = value_of(value, depth=depth)
                except TypeError as error:
                    raise NotPlain(str(error)) from error
            case _:
                raise NotPlain("no pair")
    return table


def source_of(value: Any) -> str:
    """Python source whose value is `value`; plain data only, opaque things by their name."""
    if isinstance(value, Opaque):
        return "Opaque()"
    if isinstance(value, Items):
        return _SOURCES[value.kind].format(source_of(value.items))
    if isinstance(value, float):
        return repr(value)  # inf and nan are names where this is evaluated
    if isinstance(value, complex):
        return f"complex({value.real!r}, {value.imag!r})"
    if isinstance(value, list):
        return f"[{', '.join(map(source_of, value))}]"
    if isinstance(value, tuple):
        return f"({''.join(source_of(item) + ', ' for item in value)})"
    if isinstance(value, set):
        return f"set([{', '.join(map(source_of, value))}])"
    if isinstance(value, frozenset):
        return f"frozenset([{', '.join(map(source_of, value))}])"
    if isinstance(value, dict):
        pairs = (f"{source_of(key)}: {source_of(item)}" for key, item in value.items())
        return f"{{{', '.join(pairs)}}}"
    return repr(value)
