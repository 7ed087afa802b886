"""What a witness told, decoded strictly, as Python source for the judge.

The source has literals and calls of ``set``, ``frozenset``, ``complex``, ``thing``, ``data``,
``made`` and ``guest`` only: see :class:`rewards.sandbox.court.remote.Line`.
"""

from __future__ import annotations

import re
from typing import Any

from rewards.sandbox.court.witness import MADE
from rewards.sandbox.decode import NotPlain

MAX_DEPTH = 160
_SORTS = ("iterator", "error", "class", "function", "coroutine", "object")


def spelled(message: Any, depth: int = 0) -> str:
    """Source of the value that a message stands for.

    Raises:
        NotPlain: for a malformed message.
    """
    if depth > MAX_DEPTH:
        raise NotPlain("nested too deeply")
    below = depth + 1
    if message is None or isinstance(message, (bool, str)):
        return repr(message)
    match message:
        case ["int", str(digits)] if re.fullmatch(r"-?[0-9a-f]+", digits):
            value = int(digits, 16)
            return repr(value) if abs(value) < 10**18 else f"{value:#x}"
        case ["float", str(text)]:
            return _float(text)
        case ["complex", str(real), str(imaginary)]:
            return f"complex({_float(real)}, {_float(imaginary)})"
        case ["bytes", str(digits)] if re.fullmatch(r"(?:[0-9a-f]{2})*", digits):
            return repr(bytes.fromhex(digits))
        case ["list", list(items)]:
            return f"[{', '.join([spelled(item, below) for item in items])}]"
        case ["tuple", list(items)]:
            return f"({''.join([spelled(item, below) + ', ' for item in items])})"
        case [("set" | "frozenset") as kind, list(items)]:
            return f"{kind}([{', '.join([spelled(item, below) for item in items])}])"
        case ["dict", list(items)]:
            return f"{{{', '.join([_pair(item, below) for item in items])}}}"
        case ["guest", int(number)]:
            return f"guest({number})"
        case ["data", int(number), str(name), value]:
            return f"data({number}, {name!r}, {spelled(value, below)})"
        case ["made", str(name), ["list", list(args)]] if name in MADE:
            return f"made({name!r}, ({''.join([spelled(arg, below) + ', ' for arg in args])}))"
        case ["thing", int(number), str(sort), list(names)] if sort in _SORTS and names:
            return f"thing({number}, {sort!r}, {[str(name) for name in names]!r})"
    raise NotPlain("no encoded value")


def _float(text: str) -> str:
    try:
        return repr(float(text))
    except ValueError as error:
        raise NotPlain(f"no number: {text[:40]}") from error


def _pair(item: Any, depth: int) -> str:
    match item:
        case [key, value]:
            return f"{spelled(key, depth)}: {spelled(value, depth)}"
    raise NotPlain("no pair")
