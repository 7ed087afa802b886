"""Rows of one file, whatever it is: the content decides, the name where the content does not.

| content | what it is |
|---|---|
| gzip, bzip2, xz or zstd | what is compressed in it |
| begins with a byte order mark | text in UTF-8, UTF-16 or UTF-32 |
| `PAR1`; `ARROW1`, an Arrow stream | parquet; Arrow |
| begins with `{` or `[` | JSON: Lines, an array, objects over several lines |
| other text | CSV with a header, TSV where the name ends so; not where it ends in .json |
"""

import bz2
import codecs
import gzip
import io
import lzma
import zlib
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import BinaryIO, cast

from pipeline.prompts.csv_rows import csv_rows
from pipeline.prompts.json_rows import PlacedRow, json_rows
from pipeline.prompts.library_rows import columnar_rows
from pipeline.prompts.prompt_error import PromptError
from pipeline.recipe.pointers import in_its_place

_HEAD = 4096
_COLUMNAR = {b"PAR1": "parquet", b"ARROW1": "arrow", b"\xff\xff\xff\xff": "arrow"}
_WIDE: Mapping[bytes, str] = {
    codecs.BOM_UTF32_LE: "utf-32",
    codecs.BOM_UTF32_BE: "utf-32",
    codecs.BOM_UTF16_LE: "utf-16",
    codecs.BOM_UTF16_BE: "utf-16",
}
"""Byte order marks, the longer ones first: that of UTF-32 begins with that of UTF-16."""
_JSON_SUFFIXES = (".json", ".jsonl", ".ndjson")
_READ = "JSON, CSV, parquet and Arrow are read, compressed by gzip, bzip2, xz or zstd or not"


def _zstd(path: Path) -> BinaryIO:
    import pyarrow as pa  # heavy

    return cast(BinaryIO, pa.input_stream(str(path), compression="zstd"))


_COMPRESSED: Mapping[bytes, Callable[[Path], object]] = {
    b"\x1f\x8b": gzip.open,
    b"BZh": bz2.open,
    b"\xfd7zXZ\0": lzma.open,
    b"\x28\xb5\x2f\xfd": _zstd,
}


def file_rows(path: Path) -> Iterator[PlacedRow]:
    """(place in the file, row) of every row.

    Raises PromptError naming the file, the line or row, and the fix.
    """
    try:
        with path.open("rb") as raw:
            head = raw.read(_HEAD)
        kind = next((k for magic, k in _COLUMNAR.items() if head.startswith(magic)), None)
        if kind is not None:
            yield from columnar_rows(path, kind)
            return
        with _opened(path, head) as stream:
            yield from _text_rows(path, stream)
    except (EOFError, zlib.error, lzma.LZMAError, gzip.BadGzipFile) as error:
        raise PromptError(
            f"{path}: the compressed file is damaged or cut off ({error}); "
            "download or write it again"
        ) from error
    except OSError as error:
        raise PromptError(_os_reason(path, error)) from error


def _opened(path: Path, head: bytes) -> io.BufferedReader:
    """The file's content, decompressed."""
    opener = next((o for magic, o in _COMPRESSED.items() if head.startswith(magic)), None)
    stream = path.open("rb") if opener is None else opener(path)
    return io.BufferedReader(cast(io.RawIOBase, stream), buffer_size=2**20)


def _text_rows(path: Path, stream: io.BufferedReader) -> Iterator[PlacedRow]:
    head = stream.peek(_HEAD)[:_HEAD]
    if not head:
        raise PromptError(f"{path} is empty; write one row a line, or correct the path")
    if (other := in_its_place(head)) is not None:
        raise PromptError(f"{path} {other}")
    text = cast(BinaryIO, stream)
    encoding = next((e for mark, e in _WIDE.items() if head.startswith(mark)), None)
    if encoding is not None:
        text = io.BytesIO(_utf8(path, stream.read(), encoding))
        head = text.getvalue()[:_HEAD]
    elif head.startswith(codecs.BOM_UTF8):
        stream.read(len(codecs.BOM_UTF8))
        head = head.removeprefix(codecs.BOM_UTF8)
    if b"\0" in head:
        raise PromptError(_binary(path, head))
    first = head.lstrip()[:1]
    suffixes = path.suffixes
    if first in (b"{", b"[", b"") or any(suffix in _JSON_SUFFIXES for suffix in suffixes):
        yield from json_rows(text, origin=str(path))
    else:
        delimiter = "\t" if ".tsv" in suffixes else None
        yield from csv_rows(text.read(), origin=str(path), delimiter=delimiter)


def _utf8(path: Path, content: bytes, encoding: str) -> bytes:
    try:
        return content.decode(encoding).encode("utf-8")
    except UnicodeDecodeError as error:
        line = content[: error.start].decode(encoding, "ignore").count("\n") + 1
        raise PromptError(
            f"{path}, line {line}: byte {error.start + 1} of the file is not "
            f"{encoding.upper()} ({error.reason}); save it as UTF-8"
        ) from error


def _binary(path: Path, head: bytes) -> str:
    if head.startswith(b"PK"):
        return f"{path} is a zip archive, or a workbook; unpack it, or save the table as CSV"
    if any(magic and head.startswith(magic) for magic in _COLUMNAR):
        return f"{path} is compressed twice over; decompress it"
    if head[1:2] == b"\0" or head[:1] == b"\0":
        return f"{path} is binary, or UTF-16 without a byte order mark; save it as UTF-8 ({_READ})"
    line = head[: head.index(b"\0")].count(b"\n") + 1
    return f"{path}, line {line}: a NUL stands in it, as in binary files; remove it ({_READ})"


def _os_reason(path: Path, error: OSError) -> str:
    if isinstance(error, PermissionError):
        return f"{path} cannot be opened: no permission; make it readable (chmod u+r {path.name})"
    return f"{path} cannot be read: {error.strerror or error}; correct or write it again"
