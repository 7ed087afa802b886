"""Rows in JSON: Lines, an array, or objects over several lines, told apart by their content.

Stricter than Python's parser: what other readers refuse or change (NaN, a number too large for a
float, a key twice) is refused here.
"""

import json
import math
import re
from collections.abc import Iterator
from typing import Any, BinaryIO

from pipeline.errors import WrongInput
from pipeline.prompts.prompt_error import PromptError

Row = dict[str, Any]
PlacedRow = tuple[str, Row]
"""Where a row stands in its file (`line 3`), and the row."""

MAX_DIGITS = 4300
"""Of a whole number: as many as Python converts (sys.int_info)."""

MAX_LINE = 2**28
"""Bytes of a line. Ours: one that has no end is no row."""

_BLANK = re.compile(r"[ \t\r\n]*")
_EXPECTED = 'a JSON object such as {"question": "...", "answer": "..."}'
_TYPES = {str: "text", bool: "true or false", type(None): "null", list: "list"}


class _Refusal(WrongInput):
    """What stands in JSON and cannot be a value."""


def json_rows(stream: BinaryIO, *, origin: str) -> Iterator[PlacedRow]:
    """The rows of a stream of UTF-8, blank lines skipped.

    The first line decides: one whole object a line is read line by line; anything else is read as
    one text, of an array or of objects after each other.

    Raises PromptError naming file, line and what is wrong.
    """
    lines = _lines(stream, origin=origin)
    number, first = next(((n, line) for n, line in lines if line.strip()), (0, b""))
    if not first:
        return
    if not _is_object(first):
        yield from _document_rows(first + stream.read(), origin=origin, line=number)
        return
    yield f"line {number}", _row_of_line(first, origin=origin, number=number)
    for later, line in lines:
        if line.strip():
            yield f"line {later}", _row_of_line(line, origin=origin, number=later)


def decoded(content: bytes, *, origin: str, line: int) -> str:
    """The text of UTF-8 that begins on a line.

    Raises PromptError naming the first line that is not UTF-8.
    """
    try:
        return content.decode("utf-8")
    except UnicodeDecodeError as error:
        before = content[: error.start]
        place = error.start - (before.rfind(b"\n") + 1)
        raise PromptError(
            f"{origin}, line {line + before.count(10)}: byte {place + 1} is not UTF-8; "
            "save it as UTF-8"
        ) from error


def type_name(value: Any) -> str:
    """What a value is, in a word."""
    return _TYPES.get(type(value), "number")


def _lines(stream: BinaryIO, *, origin: str) -> Iterator[tuple[int, bytes]]:
    number = 0
    while line := stream.readline(MAX_LINE + 1):
        number += 1
        if len(line) > MAX_LINE:
            raise PromptError(
                f"{origin}, line {number}: the line has more than {MAX_LINE >> 20} MiB; "
                "write one row a line"
            )
        yield number, line


def _is_object(line: bytes) -> bool:
    """Whether a line is one object, though it may be one that is refused."""
    if not line.lstrip().startswith(b"{"):
        return False
    try:
        return isinstance(_DECODER.decode(line.decode("utf-8")), dict)
    except (json.JSONDecodeError, UnicodeDecodeError):
        return False
    except (_Refusal, RecursionError):
        return True


def _row_of_line(line: bytes, *, origin: str, number: int) -> Row:
    where = f"{origin}, line {number}"
    text = decoded(line.rstrip(b"\r\n"), origin=origin, line=number)
    try:
        value = _DECODER.decode(text)
    except json.JSONDecodeError as error:
        raise PromptError(
            f"{where}, column {error.colno}: not JSON ({error.msg}); write one JSON object per line"
        ) from error
    except (_Refusal, RecursionError) as error:
        raise PromptError(f"{where}: {_reason(error)}") from error
    return _row(value, where=where)


def _document_rows(content: bytes, *, origin: str, line: int) -> Iterator[PlacedRow]:
    """The elements of an array, or values after each other."""
    text = decoded(content, origin=origin, line=line)
    position = _skip(text, 0)
    in_array = text.startswith("[", position)
    if in_array:
        position = _skip(text, position + 1)
    number, counted = 0, 0
    closed = in_array and text.startswith("]", position)
    while not closed and (in_array or position < len(text)):
        number += 1
        line += text.count("\n", counted, position)
        counted = position
        place = f"row {number}, line {line}"
        value, position = _value(text, position, origin=origin, place=place, line=line)
        yield place, _row(value, where=f"{origin}, {place}")
        position = _skip(text, position)
        if in_array:
            closed = text.startswith("]", position)
            if not closed and not text.startswith(",", position):
                problem = "the array has no end" if position == len(text) else "no comma"
                raise PromptError(
                    f"{origin}, after {place}: not JSON ({problem}); {_document_fix(in_array)}"
                )
            position = position if closed else _skip(text, position + 1)
    if closed and (rest := _skip(text, position + 1)) < len(text):
        line += text.count("\n", counted, rest)
        raise PromptError(
            f"{origin}, line {line}: something follows the array; write all rows into one array, "
            "or one JSON object per line"
        )


def _value(text: str, position: int, *, origin: str, place: str, line: int) -> tuple[Any, int]:
    """(a value, where it ends)."""
    try:
        return _DECODER.raw_decode(text, position)
    except json.JSONDecodeError as error:
        begin = text.rfind("\n", 0, error.pos) + 1
        line += text.count("\n", position, error.pos)
        raise PromptError(
            f"{origin}, line {line}, column {error.pos - begin + 1}: not JSON ({error.msg}); "
            f"{_document_fix(text.lstrip().startswith('['))}"
        ) from error
    except (_Refusal, RecursionError) as error:
        raise PromptError(f"{origin}, {place}: {_reason(error)}") from error


def _document_fix(in_array: bool) -> str:
    return "correct the array" if in_array else "write one JSON object per line, or an array"


def _row(value: Any, *, where: str) -> Row:
    if not isinstance(value, dict):
        raise PromptError(f"{where}: a {type_name(value)} where {_EXPECTED} is expected")
    return value


def _skip(text: str, position: int) -> int:
    blank = _BLANK.match(text, position)
    return blank.end() if blank else position


def _reason(error: Exception) -> str:
    if isinstance(error, RecursionError):
        return "nested too deep to be read; flatten its lists and objects"
    return str(error)


def _object(pairs: list[tuple[str, Any]]) -> Row:
    row = dict(pairs)
    if len(row) < len(pairs):
        names = [name for name, _ in pairs]
        twice = next(name for name in names if names.count(name) > 1)
        raise _Refusal(f"the key {twice!r} stands twice in one object; remove one")
    return row


def _constant(name: str) -> Any:
    raise _Refusal(f"{name} is not JSON; write a number, text or null")


def _integer(digits: str) -> int:
    if len(digits) > MAX_DIGITS:
        raise _Refusal(f"a whole number of {len(digits):,} digits; write it as text")
    return int(digits)


def _float(text: str) -> float:
    number = float(text)
    if math.isinf(number):
        raise _Refusal(f"{text[:40]} is too large for a number; write it as text")
    return number


_DECODER = json.JSONDecoder(
    object_pairs_hook=_object, parse_constant=_constant, parse_int=_integer, parse_float=_float
)
