"""Rows of CSV and TSV. Every value stays the text that it is: a gold of 2.50 or 007 too.

But for one: what programs write where a number is missing or endless becomes that, so that no gold
is the text `nan`.
"""

import csv
import io
from collections.abc import Iterator

from pipeline.prompts.json_rows import MAX_LINE, PlacedRow, decoded
from pipeline.prompts.prompt_error import PromptError

DELIMITERS = ",\t;|"

NO_NUMBERS = ("NaN", "nan", "-nan", "inf", "+inf", "-inf", "Infinity", "-Infinity")
"""What pandas, NumPy, C and JavaScript write for a number that is none."""


def csv_rows(content: bytes, *, origin: str, delimiter: str | None) -> Iterator[PlacedRow]:
    """The rows under a header, quoted as RFC 4180 has it; empty lines are skipped.

    Without a `delimiter` it is the one that the header has most of. Raises PromptError naming file
    and line.
    """
    text = decoded(content, origin=origin, line=1)
    header = text.lstrip("\r\n").partition("\n")[0]
    delimiter = delimiter or max(DELIMITERS, key=header.count)
    csv.field_size_limit(MAX_LINE)
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=delimiter, strict=True)
    names: list[str] = []
    line = 1
    try:
        for values in reader:
            where, line = f"line {line}", reader.line_num + 1
            if not values:
                continue
            if not names:
                names = _header(values, where=f"{origin}, {where}")
                continue
            if len(values) != len(names):
                raise PromptError(
                    f"{origin}, {where}: {len(values)} values for {len(names)} columns "
                    f"({', '.join(names)}); put quotes around a value that holds {delimiter!r}"
                )
            read = (float(value) if value in NO_NUMBERS else value for value in values)
            yield where, dict(zip(names, read, strict=True))
    except csv.Error as error:
        raise PromptError(
            f"{origin}, line {line}: not CSV ({error}); put quotes around values, and double the "
            "quotes inside them"
        ) from error


def _header(names: list[str], *, where: str) -> list[str]:
    for name in names:
        if names.count(name) > 1:
            raise PromptError(f"{where}: two columns are called {name!r}; rename one")
    return names
