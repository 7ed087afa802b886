"""One set of rows in every kind of file gives one set of prompts."""

import bz2
import csv
import gzip
import io
import json
import lzma
import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from pipeline.prompts.file_rows import file_rows
from pipeline.prompts.prompt_error import PromptError

ROWS = [
    {"question": "Was macht 2+2?\nUnd 3+3?", "answer": "4"},
    {"question": 'Say "né\u2028e", please', "answer": "007"},
    {"question": "x, y; z", "answer": "2.50"},
]
LINES = "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in ROWS)
TABLE = pa.Table.from_pylist(ROWS)


def table_text(delimiter: str, *, end: str = "\n") -> bytes:
    out = io.StringIO()
    writer = csv.DictWriter(out, ROWS[0], delimiter=delimiter, lineterminator=end)
    writer.writeheader()
    writer.writerows(ROWS)
    return out.getvalue().encode()


def zstd(content: bytes) -> bytes:
    sink = pa.BufferOutputStream()
    with pa.CompressedOutputStream(sink, "zstd") as stream:
        stream.write(content)
    return sink.getvalue().to_pybytes()


def columnar(write: Callable[[Any], None]) -> bytes:
    sink = pa.BufferOutputStream()
    write(sink)
    return sink.getvalue().to_pybytes()


def stream(sink: Any, *, new: Callable[..., Any]) -> None:
    with new(sink, TABLE.schema) as writer:
        writer.write_table(TABLE)


FILES = {
    "lines.jsonl": LINES.encode(),
    "crlf.jsonl": LINES.replace("\n", "\r\n").encode(),
    "blank.jsonl": LINES.replace("\n", "\n \n").encode(),
    "mark.jsonl": LINES.encode("utf-8-sig"),
    "wide.jsonl": LINES.encode("utf-16"),
    "wide-be.jsonl": b"\xfe\xff" + LINES.encode("utf-16-be"),
    "widest.jsonl": LINES.encode("utf-32"),
    "array.json": json.dumps(ROWS).encode(),
    "array.jsonl": json.dumps(ROWS, indent=1).encode(),
    "mark.json": json.dumps(ROWS, indent=1, ensure_ascii=False).encode("utf-16"),
    "objects.json": "\n".join(json.dumps(row, indent=2) for row in ROWS).encode(),
    "one-line.json": "".join(json.dumps(row) for row in ROWS).encode(),
    "comma.csv": table_text(","),
    "crlf.csv": table_text(",", end="\r\n"),
    "mark.csv": b"\xef\xbb\xbf" + table_text(";"),
    "tab.tsv": table_text("\t"),
    "nameless": table_text(","),
    "tab.txt": table_text("\t"),
    "lines.txt": LINES.encode(),
    "lines.jsonl.gz": gzip.compress(LINES.encode()),
    "twice.jsonl.gz": b"".join(gzip.compress(row.encode()) for row in LINES.splitlines(True)),
    "lines.jsonl.bz2": bz2.compress(LINES.encode()),
    "lines.jsonl.xz": lzma.compress(LINES.encode()),
    "lines.jsonl.zst": zstd(LINES.encode()),
    "wide.csv.gz": gzip.compress(table_text("\t").decode().encode("utf-16")),
    "gzip-without-its-name.json": gzip.compress(json.dumps(ROWS).encode()),
    "rows.parquet": columnar(lambda sink: pq.write_table(TABLE, sink)),
    "parquet-without-its-name.json": columnar(lambda sink: pq.write_table(TABLE, sink)),
    "rows.arrow": columnar(lambda sink: stream(sink, new=pa.ipc.new_stream)),
    "rows.feather": columnar(lambda sink: stream(sink, new=pa.ipc.new_file)),
}


@pytest.mark.parametrize("name", FILES)
def test_every_kind_of_file_holds_the_same_rows(name: str, tmp_path: Path) -> None:
    path = tmp_path / name
    path.write_bytes(FILES[name])
    if name == "twice.jsonl.gz":  # U+2028 parts no JSON line
        assert len(LINES.splitlines()) > len(ROWS)
    assert [row for _, row in file_rows(path)] == ROWS


HOSTILE = {
    "empty.jsonl": (b"", "is empty"),
    "empty.csv": (b"", "is empty"),
    "program.jsonl": (Path(sys.executable).read_bytes()[:5000], "NUL stands in it"),
    "random.bin": (b"\x80\x05K\x00" + os.urandom(300), "NUL stands in it"),
    "book.xlsx": (b"PK\x03\x04" + bytes(50), "zip archive, or a workbook"),
    "no-mark.jsonl": (LINES.encode("utf-16-le"), "UTF-16 without a byte order mark"),
    "half.jsonl": (LINES.encode("utf-16")[:-1], "is not UTF-16 (truncated data)"),
    "latin.csv": ("question,answer\né,1\n".encode("latin-1"), "line 2: byte 1 is not UTF-8"),
    "cut.jsonl.gz": (FILES["lines.jsonl.gz"][:-20], "damaged or cut off"),
    "sum.jsonl.gz": (FILES["lines.jsonl.gz"][:-8] + bytes(8), "damaged or cut off"),
    "cut.jsonl.bz2": (FILES["lines.jsonl.bz2"][:-20], "damaged or cut off"),
    "cut.jsonl.xz": (FILES["lines.jsonl.xz"][:-20], "damaged or cut off"),
    "cut.jsonl.zst": (FILES["lines.jsonl.zst"][:-20], "cut.jsonl.zst cannot be read"),
    "cut.parquet": (FILES["rows.parquet"][:-30], "cannot be read as parquet"),
    "cut.arrow": (FILES["rows.arrow"][:200], "cannot be read as arrow"),
    "cut.feather": (FILES["rows.feather"][:-40], "cannot be read as arrow"),
}


@pytest.mark.parametrize("name", HOSTILE)
def test_a_file_that_holds_no_rows_is_refused(name: str, tmp_path: Path) -> None:
    content, said = HOSTILE[name]
    path = tmp_path / name
    path.write_bytes(content)
    with pytest.raises(PromptError) as caught:
        list(file_rows(path))
    message = str(caught.value)
    assert str(path) in message
    assert said in message
    assert "\n" not in message


def test_a_file_that_the_system_will_not_read_is_named() -> None:
    with pytest.raises(PromptError, match=r"/proc/self/mem cannot be read: Input/output error"):
        list(file_rows(Path("/proc/self/mem")))


@pytest.mark.parametrize("name", ["rows.jsonl", "rows.parquet", "rows.csv", "rows"])
def test_what_a_download_left_in_a_files_place_is_named(name: str, tmp_path: Path) -> None:
    file = tmp_path / name
    file.write_text("version https://git-lfs.github.com/spec/v1\noid sha256:4d7a\nsize 123\n")
    with pytest.raises(PromptError, match="is Git LFS's pointer to the file"):
        list(file_rows(file))
    file.write_text("\n<!doctype HTML>\n<p>Not here</p>\n")
    with pytest.raises(PromptError, match="is a web page, not the file"):
        list(file_rows(file))
