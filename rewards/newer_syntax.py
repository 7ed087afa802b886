"""What of a program is syntax of a Python that is newer than the one that runs it."""

from __future__ import annotations

import ast
import re
import sys

_IN_3_12 = {
    "type parameters of a function": re.compile(r"^\s*(?:async\s+)?def\s+\w+\s*\[", re.M),
    "type parameters of a class": re.compile(r"^\s*class\s+\w+\s*\[", re.M),
    "a type statement": re.compile(r"^\s*type\s+\w+\s*(?:\[[^\n]*\])?\s*=[^=]", re.M),
}


def newer_syntax(program: str) -> str:
    """A sentence on syntax of Python 3.12 in a program that does not parse; empty for others.

    >>> newer_syntax("x = 1")
    ''
    """
    if sys.version_info >= (3, 12):
        return ""
    try:
        ast.parse(program)
    except SyntaxError as error:
        marks = [name for name, pattern in _IN_3_12.items() if pattern.search(program)]
        if (error.msg or "").startswith("f-string"):
            marks.append("an f-string within quotes of its own")
        if not marks:
            return ""
        here = ".".join(map(str, sys.version_info[:2]))
        return f"{marks[0]} needs Python 3.12, and programs run in Python {here} here"
    except (ValueError, RecursionError, MemoryError):
        pass
    return ""
