"""A run in a notebook: one output below the cell, drawn again as the run goes on."""

import importlib
import io
import time
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

from rich.console import Console as Terminal
from rich.console import Group
from rich.text import Text

from pipeline.plan.stage_plan import Plan
from pipeline.stages.context import Console, Metrics
from pipeline.watch.console import RunTable, make_console

WIDTH = 110  # characters
DRAWN_S = 1.0  # between two drawings that no change of a stage asks for
MESSAGES = 8  # the last ones; logs/run.log has all
_PRE = (
    '<pre style="white-space:pre;overflow-x:auto;line-height:normal;'
    "font-family:Menlo,'DejaVu Sans Mono',consolas,monospace\">{code}</pre>"
)


class Output(Protocol):
    """An output of a cell whose content can change; IPython's display handle is one."""

    def update(self, obj: Any) -> None: ...


def person_console() -> Console:
    """The console for whoever looks on: an output in a notebook, else the terminal's, which writes
    to standard error."""
    return NotebookConsole() if Terminal().is_jupyter else make_console(json=False)


class NotebookConsole:
    """A run's table with its latest messages. It is the run's record that shows the results."""

    def __init__(
        self,
        *,
        show: Callable[[Any], Output] | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """`show` makes an output that holds an object; default: IPython's display."""
        self._show = show or _display
        self._clock = clock
        self._table = RunTable(clock=clock)
        self._messages: deque[str] = deque(maxlen=MESSAGES)
        self._output: Output | None = None
        self._drawn = 0.0

    def start(self, plan: Plan, run_dir: Path) -> None:
        """Show the table of the plan's stages, all waiting."""
        self._table.start(plan, run_dir)
        self._draw()

    def stage(self, name: str, state: str, *, seconds: float = 0.0, note: str = "") -> None:
        """Set a stage's state."""
        self._table.stage(name, state, seconds=seconds, note=note)
        self._draw()

    def metrics(self, name: str, row: Metrics) -> None:
        """Take a metric row."""
        self._table.metrics(name, row)
        if self._clock() - self._drawn >= DRAWN_S:
            self._draw()

    def log(self, message: str) -> None:
        """Show a message below the table."""
        self._messages.append(message)
        self._draw()

    def finish(self, results: Sequence[Mapping[str, Any]]) -> None:
        """Show the last state."""
        self._draw()

    def _draw(self) -> None:
        self._drawn = self._clock()
        content = _Markup(self._table, list(self._messages))
        if self._output is None:
            self._output = self._show(content)
        else:
            self._output.update(content)


class _Markup:
    """The table as of now, for a notebook."""

    def __init__(self, table: RunTable, messages: Sequence[str]) -> None:
        terminal = Terminal(
            record=True, file=io.StringIO(), width=WIDTH, force_jupyter=False, force_terminal=True
        )
        lines = [Text(message, "dim") for message in messages]
        terminal.print(Group(table.frame(width=WIDTH), *lines))
        self._html = terminal.export_html(inline_styles=True, code_format=_PRE, clear=False)
        self._text = terminal.export_text()

    def __repr__(self) -> str:
        return self._text

    def _repr_html_(self) -> str:
        return self._html


def _display(content: Any) -> Output:
    """An output below the running cell. IPython is there, since this is one of its kernels."""
    return importlib.import_module("IPython.display").display(content, display_id=True)
