"""Tables and lines of text as a notebook shows them. Escaped: nothing in them is markup."""

from collections.abc import Sequence
from html import escape


def html_table(columns: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A table, a text a cell, of the class that notebooks give a look to."""
    head = "".join(f"<th>{escape(text)}</th>" for text in columns)
    body = "".join(
        f"<tr>{''.join(f'<td>{escape(text)}</td>' for text in row)}</tr>" for row in rows
    )
    return f'<table class="dataframe"><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>'


def html_lines(lines: Sequence[str]) -> str:
    """Lines as they stand, in one block; nothing where there are none."""
    return f"<pre>{escape(chr(10).join(lines))}</pre>" if lines else ""
