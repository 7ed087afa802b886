"""A run below a notebook's cell: one output, drawn again."""

from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

from pipeline.plan.stage_plan import Plan
from pipeline.watch.console import PlainConsole
from pipeline.watch.notebook_console import NotebookConsole, person_console

PLAN = cast(
    Plan,
    SimpleNamespace(
        recipe=SimpleNamespace(name="quickstart"),
        device="cpu",
        stages=[
            SimpleNamespace(name="cold_start", kind="sft"),
        ],
    ),
)


class Cell:
    """The outputs below a cell, and the time."""

    def __init__(self) -> None:
        self.outputs: list[list[Any]] = []
        self.now = 0.0

    def show(self, content: Any) -> Any:
        """A new output; its contents one after another."""
        drawn = [content]
        self.outputs.append(drawn)
        return SimpleNamespace(update=drawn.append)


def test_a_run_is_one_output_that_changes() -> None:
    cell = Cell()
    console = NotebookConsole(show=cell.show, clock=lambda: cell.now)
    console.start(PLAN, Path("runs/q"))
    console.stage("cold_start", "running")
    console.log("warning: <b>")
    for step in range(1, 11):
        cell.now += 0.25
        console.metrics("cold_start", {"step": step, "steps": 10, "loss": 1 / step})
    console.stage("cold_start", "done", seconds=12.0)
    console.finish([])
    (drawn,) = cell.outputs
    assert len(drawn) == 3 + 2 + 2  # of ten rows of metrics, one a second
    assert "step 8/10" in repr(drawn[4])
    assert "0:12" in repr(drawn[-1])
    markup = drawn[-1]._repr_html_()
    assert "quickstart" in markup
    assert "warning: &lt;b&gt;" in markup


def test_messages_that_are_old_make_room() -> None:
    cell = Cell()
    console = NotebookConsole(show=cell.show)
    for number in range(20):
        console.log(f"line {number}")
    text = repr(cell.outputs[0][-1])
    assert "line 19" in text
    assert "line 12" in text
    assert "line 11" not in text


def test_outside_of_a_notebook_the_terminal_shows_a_run() -> None:
    assert isinstance(person_console(), PlainConsole)
