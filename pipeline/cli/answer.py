"""What a command gives back, and the exit codes: shared by the command line's modules."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Annotated, Any

import typer

from pipeline.errors import OK

HOLE = 1  # an attack was paid
INTERRUPTED = 130  # Ctrl-C where nothing was running

Json = Annotated[
    bool, typer.Option("--json", help="One JSON document on standard output, nothing else.")
]


@dataclass(frozen=True, kw_only=True)
class Answer:
    """What a command found: a document for programs, and a way to show it to people."""

    document: Mapping[str, Any]
    show: Callable[[], None]
    code: int = OK
