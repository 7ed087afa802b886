import io
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest
from rich.console import Console as Terminal

from pipeline.plan.stage_plan import Plan
from pipeline.watch.console import (
    LiveConsole,
    PlainConsole,
    described,
    duration,
    make_console,
    sparkline,
)

RESULTS: list[Mapping[str, Any]] = [
    {"model": "base", "prompts": "held_out", "accuracy": 0.153, "ci_low": 0.13, "ci_high": 0.176},
    {"model": "reason", "prompts": "held_out", "accuracy": 0.61, "ci_low": 0.58, "ci_high": 0.64}
    | {"mean_tokens": 41.23, "minutes": 3.2},
]
ROW = {"step": 3, "steps": 60, "reward": 0.5, "reward/answer": 0.4, "completion_tokens": 41.3}


class Clock:
    """A clock that a test moves."""

    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        """The time that the test set."""
        return self.now


def plan(**stages: str) -> Plan:
    named = [SimpleNamespace(name=name, kind=kind) for name, kind in stages.items()]
    recipe = SimpleNamespace(name="quickstart")
    return cast(Plan, SimpleNamespace(recipe=recipe, device="cpu", stages=named))


def plain() -> tuple[PlainConsole, io.StringIO, Clock]:
    out, clock = io.StringIO(), Clock()
    return PlainConsole(Terminal(file=out, width=80), clock=clock), out, clock


def live(*, width: int = 100) -> tuple[LiveConsole, Terminal, Clock]:
    terminal, clock = Terminal(file=io.StringIO(), force_terminal=True, width=width), Clock()
    return LiveConsole(terminal, clock=clock), terminal, clock


def shown(console: LiveConsole, *, width: int = 100) -> str:
    out = io.StringIO()
    Terminal(file=out, width=width).print(console.frame())
    return out.getvalue()


def test_plain_lines_name_stage_state_time_and_note() -> None:
    console, out, _ = plain()
    console.start(plan(cold_start="sft", reason="grpo"), Path("runs/q"))
    console.stage("reason", "running")
    console.stage("reason", "done", seconds=190, note="96 groups resampled")
    lines = [line[9:] for line in out.getvalue().splitlines()]
    assert lines == [
        "quickstart on cpu, run folder runs/q",
        "2 stages: cold_start, reason",
        "reason (grpo): running",
        "reason (grpo): done after 3:10, 96 groups resampled",
    ]


def test_plain_metrics_are_one_line_without_control_characters() -> None:
    console, out, _ = plain()
    console.metrics("reason", ROW)
    assert out.getvalue()[9:] == "reason: step 3/60, reward 0.500 (answer 0.40), tokens 41.3\n"


@pytest.mark.parametrize(("seconds", "lines"), [(0.1, 5), (1.0, 11), (60.0, 100)])
def test_plain_metrics_are_sparse_on_quick_steps(seconds: float, lines: int) -> None:
    console, out, clock = plain()
    for step in range(1, 101):
        console.metrics("reason", {"step": step, "steps": 100, "loss": 1.0})
        clock.now += seconds
    printed = out.getvalue().splitlines()
    assert abs(len(printed) - lines) <= 2
    assert "step 100/100" in printed[-1]


def test_plain_held_out_rows_always_come_through() -> None:
    console, out, _ = plain()
    for step in (1, 2, 3):
        console.metrics("reason", {"step": step, "steps": 9, "held_out_accuracy": step / 10})
    assert [line[-5:] for line in out.getvalue().splitlines()] == ["10.0%", "20.0%", "30.0%"]


def test_messages_and_notes_are_no_markup() -> None:
    console, out, _ = plain()
    console.log("wrote [bold]x[/bold]")
    assert "[bold]x[/bold]" in out.getvalue()
    lively, _, _ = live()
    lively.stage("[red]s", "done", note="[/red]")
    assert "[/red]" in shown(lively)


def test_the_live_table_shows_every_stage_and_the_running_ones_metrics() -> None:
    console, _, clock = live()
    console.start(plan(cold_start="sft", reason="grpo", export="export"), Path("runs/q"))
    console.stage("cold_start", "done", seconds=42, note="4,000 rows")
    console.stage("reason", "running")
    clock.now += 65
    console.metrics("reason", ROW | {"held_out_accuracy": 0.6, "seconds_left": 3700})
    console.metrics("reason", {"step": 4, "steps": 60, "reward": 0.75, "truncated_share": 0.02})
    frame = shown(console)
    console.close()
    for part in ("0:42", "4,000 rows", "1:05", "step 4/60", "0.750", "60.0%", "1:01:40", "2.0%"):
        assert part in frame
    assert "▁█" in frame


def test_stages_finished_before_say_so() -> None:
    console, _, _ = live()
    console.stage("cold_start", "finished before", seconds=42)
    console.stage("reason", "running")
    lines = [line for line in shown(console).splitlines() if line.strip()]
    assert lines[0].endswith("finished before")
    assert "0:42" not in lines[0]


@pytest.mark.parametrize("width", [40, 80, 200])
def test_the_live_line_fits_its_terminal(width: int) -> None:
    console, _, _ = live(width=width)
    console.stage("reason", "running")
    console.metrics("reason", ROW | {"zero_variance_share": 0.1, "logprob_gap": 1e-6})
    lines = shown(console, width=width).splitlines()
    assert max(len(line.rstrip()) for line in lines) <= width


def test_a_failure_ends_the_live_display_and_shows_the_cursor() -> None:
    console, terminal, _ = live()
    console.start(plan(reason="grpo"), Path("runs/q"))
    console.stage("reason", "failed", seconds=3, note="engine 0: out of memory")
    written = cast(io.StringIO, terminal.file).getvalue()
    assert "failed, engine 0: out of memory" in written
    assert written.rindex("\x1b[?25h") > written.rindex("\x1b[?25l")


@pytest.mark.parametrize("make", [plain, live])
def test_the_results_table_has_intervals(make: Any) -> None:
    console, out, _ = make()
    console.finish(RESULTS)
    text = out.getvalue() if isinstance(out, io.StringIO) else out.file.getvalue()
    for part in ("reason", "held_out", "61.0%", "58.0% to 64.0%", "41.2", "3.2"):
        assert part in text


def test_only_what_a_row_has_is_described() -> None:
    assert described({"step": 1, "steps": 2, "loss": 0.5}) == [("loss", "0.5000")]
    assert described({"truncated_share": 0.0, "unscored_share": 0.01}) == [("unscored", "1.0%")]
    assert described({"resampled_groups": 3.0, "too_long_share": 0.25}) == [
        ("groups replaced", "3"),
        ("left out as too long", "25.0%"),
    ]


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0, "0:00"), (42.4, "0:42"), (723, "12:03"), (3600, "1:00:00"), (90061, "25:01:01")],
)
def test_durations(seconds: float, text: str) -> None:
    assert duration(seconds) == text


def test_sparklines() -> None:
    assert sparkline([0, 1, float("nan"), 0.5]) == "▁█▅"
    assert sparkline([2, 2]) == "▁▁"
    assert sparkline([]) == ""


def test_no_terminal_means_plain_lines_on_standard_error() -> None:
    code = (
        "from pipeline.watch.console import make_console\n"
        "make_console(json=False).metrics('reason', {'step': 1, 'steps': 2, 'loss': 1.0})"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == ""
    assert "reason: step 1/2, loss 1.0000" in done.stderr
    assert isinstance(make_console(json=True), PlainConsole)
