"""A run on the terminal: a live table where there is one, plain lines elsewhere.

Both write to standard error only, so that standard output stays free for `--json`.
"""

import atexit
import math
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from rich.console import Console as Terminal
from rich.console import Group, RenderableType
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.spinner import Spinner
from rich.table import Table
from rich.text import Text

from pipeline.measure.ledger import ledger_line, speed_text
from pipeline.plan.stage_plan import Plan
from pipeline.stages.context import Console, Metrics
from pipeline.watch.terminal import StandardError

RUNNING = "running"
FINAL_STATES = ("failed", "stopped")
"""States after which the run ends: the live table is left standing."""

QUIET_S = 2.0
QUIET_STEPS = 10
PATIENCE_S = 30.0
"""A plain metrics line comes after both QUIET limits, or after PATIENCE_S."""

SPARK_WIDTH = 24
"""Latest rewards or losses drawn beside the live line."""

_MARKS: Mapping[str, tuple[str, str]] = {
    "waiting": ("○", "dim"),
    "done": ("✓", "green"),
    "finished before": ("✓", "dim"),
    "failed": ("✗", "bold red"),
    "stopped": ("■", "yellow"),
}
_BARS = "▁▂▃▄▅▆▇█"


def make_console(json: bool) -> Console:
    """The console for this process: live on a terminal, plain otherwise and under `--json`."""
    terminal = StandardError()
    live = terminal.is_terminal and not json and terminal.encoding.startswith("utf")
    return LiveConsole(terminal) if live else PlainConsole(terminal)


@dataclass
class _Stage:
    """What the live table knows about one stage."""

    kind: str
    state: str = "waiting"
    seconds: float = 0.0
    note: str = ""
    started: float = 0.0
    row: dict[str, float] = field(default_factory=dict)  # the latest value of every metric
    history: list[float] = field(default_factory=list)  # of the reward, else the loss


class RunTable:
    """What a run shows while it goes on: its stages, and of running ones a line of metrics."""

    def __init__(self, *, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._stages: dict[str, _Stage] = {}
        self._title = Text()
        self._spinner = Spinner("dots", style="cyan")

    def start(self, plan: Plan, run_dir: Path) -> None:
        """Take the plan's stages, all waiting."""
        self._stages = {stage.name: _Stage(stage.kind) for stage in plan.stages}
        self._title = Text.assemble(
            (plan.recipe.name, "bold"), (f"   {plan.device}   {run_dir}", "dim"), overflow="fold"
        )

    def stage(self, name: str, state: str, *, seconds: float = 0.0, note: str = "") -> None:
        """Set a stage's state."""
        stage = self._stages.setdefault(name, _Stage(kind=""))
        if state == RUNNING and stage.state != RUNNING:
            stage.started = self._clock()
        stage.state, stage.seconds, stage.note = state, seconds, note

    def metrics(self, name: str, row: Metrics) -> None:
        """Take a metric row; what it lacks keeps its latest value."""
        stage = self._stages.setdefault(name, _Stage(kind=""))
        stage.row = {**stage.row, **row}  # a new one: the display's thread may read the old
        series = row.get("reward", row.get("loss"))
        if series is not None:
            stage.history = [*stage.history, series][-SPARK_WIDTH:]

    def frame(self, *, width: int) -> RenderableType:
        """The table and the running stages' lines, as of now, for so many characters."""
        table = Table.grid(padding=(0, 2))
        for ratio in (None, None, None, None, 1):
            table.add_column(ratio=ratio, no_wrap=ratio is None, overflow="fold")
        table.columns[3].justify = "right"
        for name, stage in self._stages.items():
            table.add_row(*self._cells(name, stage))
        running = [(n, s) for n, s in self._stages.items() if s.state == RUNNING and s.row]
        lines = [part for name, stage in running for part in _line(name, stage, width=width)]
        return Group(Text(), self._title, table, *lines)

    def _cells(self, name: str, stage: _Stage) -> tuple[RenderableType, ...]:
        mark, style = _MARKS.get(stage.state, ("•", ""))
        seconds = self._clock() - stage.started if stage.state == RUNNING else stage.seconds
        untimed = stage.state in ("waiting", "finished before")
        return (
            self._spinner if stage.state == RUNNING else Text(mark, style),
            Text(name, {RUNNING: "bold", "waiting": "dim"}.get(stage.state, "")),
            Text(stage.kind, "dim"),
            Text("" if untimed else duration(seconds)),
            Text(_said(stage), style if stage.state in FINAL_STATES else "dim"),
        )


def _line(name: str, stage: _Stage, *, width: int) -> list[RenderableType]:
    step, steps = stage.row.get("step", 0.0), stage.row.get("steps", 0.0)
    bar = Table.grid(padding=(0, 2))
    bar.add_row(
        Text(name, "bold cyan"),
        Text(f"step {step:g}/{steps:g}"),
        ProgressBar(total=max(steps, 1.0), completed=step, width=28),
        Text(sparkline(stage.history), "magenta"),
    )
    return [Text(), bar, *_lines_of(described(stage.row), width=width)]


class LiveConsole:
    """A run's table that stays at the bottom of the terminal."""

    def __init__(self, terminal: Terminal, *, clock: Callable[[], float] = time.monotonic) -> None:
        self._terminal = terminal
        self._table = RunTable(clock=clock)
        self._live: Live | None = None

    def start(self, plan: Plan, run_dir: Path) -> None:
        """Show the table of the plan's stages, all waiting."""
        self._table.start(plan, run_dir)
        self._live = Live(
            get_renderable=self.frame,
            console=self._terminal,
            refresh_per_second=4,
            redirect_stdout=sys.stdout.isatty(),
        )
        self._live.start()
        atexit.register(self.close)

    def stage(self, name: str, state: str, *, seconds: float = 0.0, note: str = "") -> None:
        """Set a stage's state; a final state of the run ends the live display."""
        self._table.stage(name, state, seconds=seconds, note=note)
        if state in FINAL_STATES:
            self.close()

    def metrics(self, name: str, row: Metrics) -> None:
        """Take a metric row; what it lacks keeps its latest value."""
        self._table.metrics(name, row)

    def log(self, message: str) -> None:
        """Print a message above the table."""
        self._terminal.print(Text(message))

    def finish(self, results: Sequence[Mapping[str, Any]]) -> None:
        """End the live display and print the results."""
        self.close()
        _print_results(self._terminal, results)

    def close(self) -> None:
        """End the live display and leave its last state standing."""
        if self._live is not None:
            self._live.stop()
            self._live = None
            atexit.unregister(self.close)

    def frame(self) -> RenderableType:
        """The table as of now."""
        return self._table.frame(width=self._terminal.width)


class PlainConsole:
    """One line per event, for logs and pipes."""

    def __init__(self, terminal: Terminal, *, clock: Callable[[], float] = time.monotonic) -> None:
        self._terminal = terminal
        self._clock = clock
        self._printed: dict[str, tuple[float, float]] = {}  # stage -> (time, step) of its last line
        self._kinds: dict[str, str] = {}

    def start(self, plan: Plan, run_dir: Path) -> None:
        """Say what runs where."""
        self._kinds = {stage.name: stage.kind for stage in plan.stages}
        names = ", ".join(self._kinds)
        self.log(f"{plan.recipe.name} on {plan.device}, run folder {run_dir}")
        self.log(f"{len(self._kinds)} stages: {names}")

    def stage(self, name: str, state: str, *, seconds: float = 0.0, note: str = "") -> None:
        """Say that a stage changed its state."""
        kind = f" ({self._kinds[name]})" if name in self._kinds else ""
        time_taken = f" after {duration(seconds)}" if seconds else ""
        self.log(f"{name}{kind}: {state}{time_taken}{f', {note}' if note else ''}")

    def metrics(self, name: str, row: Metrics) -> None:
        """Print the row unless the last one is too recent; held-out rows always come through."""
        now, step = self._clock(), row.get("step", 0.0)
        last = self._printed.get(name)
        if last and "held_out_accuracy" not in row and step != row.get("steps"):
            waited, steps = now - last[0], step - last[1]
            if waited < PATIENCE_S and (waited < QUIET_S or steps < QUIET_STEPS):
                return
        self._printed[name] = (now, step)
        values = ", ".join(f"{key} {value}" for key, value in described(row))
        self.log(f"{name}: step {step:g}/{row.get('steps', 0.0):g}, {values}")

    def log(self, message: str) -> None:
        """Print a message with the time of day."""
        self._terminal.print(Text(f"{time.strftime('%H:%M:%S')} {message}"), soft_wrap=True)

    def finish(self, results: Sequence[Mapping[str, Any]]) -> None:
        """Print the results."""
        _print_results(self._terminal, results)


def described(row: Metrics) -> list[tuple[str, str]]:
    """(label, value) of what a line of metrics shows, in its order; absent metrics are left out."""
    parts = {k.removeprefix("reward/"): v for k, v in row.items() if k.startswith("reward/")}
    inside = ", ".join(f"{name} {value:.2f}" for name, value in parts.items())
    shown: list[tuple[str, str]] = []
    if "reward" in row:
        shown.append(("reward", f"{row['reward']:.3f}" + (f" ({inside})" if inside else "")))
    elif "loss" in row:
        shown.append(("loss", f"{row['loss']:.4f}"))
    shown += [(label, form(row[key])) for key, label, form in _SHOWN if key in row]
    if spent := ledger_line(row):
        shown.append((f"step {row['step_seconds']:.1f} s", spent))
    if speed := speed_text(row):
        shown.append(("trained at", speed))
    shown += [(label, form(row[key])) for key, label, form in _ALARMS if row.get(key)]
    return shown


def duration(seconds: float) -> str:
    """Hours, minutes and seconds, such as 0:42 or 1:02:03."""
    minutes, s = divmod(max(0, round(seconds)), 60)
    hours, m = divmod(minutes, 60)
    return f"{hours}:{m:02}:{s:02}" if hours else f"{m}:{s:02}"


def sparkline(values: Sequence[float]) -> str:
    """The values as a row of bars, from their least to their greatest."""
    values = [value for value in values if math.isfinite(value)]
    low, high = min(values, default=0.0), max(values, default=0.0)
    scale = (len(_BARS) - 1) / (high - low) if high > low else 0.0
    return "".join(_BARS[round((v - low) * scale)] for v in values)


RESULT_COLUMNS = ("model", "prompts", "accuracy", "95% interval", "mean tokens", "minutes")


def result_cells(row: Mapping[str, Any]) -> tuple[str, ...]:
    """What tables say of a model's evaluation, a text a column of RESULT_COLUMNS."""
    return (
        str(row["model"]),
        str(row.get("prompts", "")),
        f"{row['accuracy']:.1%}",
        f"{row['ci_low']:.1%} to {row['ci_high']:.1%}" if "ci_low" in row else "",
        f"{row['mean_tokens']:.1f}" if row.get("mean_tokens") is not None else "",
        f"{row['minutes']:.1f}" if row.get("minutes") is not None else "",
    )


def results_table(results: Sequence[Mapping[str, Any]]) -> Table:
    """Model after each stage: held-out accuracy with its 95 % interval, mean tokens, minutes."""
    table = Table(box=None, padding=(0, 2, 0, 0), title_justify="left", header_style="dim")
    for header in RESULT_COLUMNS:
        table.add_column(header, justify="left" if header in ("model", "prompts") else "right")
    for row in results:
        model, prompts, accuracy, *others = result_cells(row)
        table.add_row(Text(model), Text(prompts), Text(accuracy, "bold"), *others)
    return table


def _print_results(terminal: Terminal, results: Sequence[Mapping[str, Any]]) -> None:
    if results:
        terminal.print()
        terminal.print(results_table(results))


def _lines_of(pairs: Sequence[tuple[str, str]], *, width: int) -> list[Text]:
    """The pairs on as few indented lines as their width allows, never breaking inside a pair."""
    lines: list[Text] = []
    for label, value in pairs:
        pair = Text.assemble((f"{label} ", "dim"), value)
        if lines and lines[-1].cell_len + 3 + pair.cell_len <= width:
            lines[-1].append("   ").append(pair)
        else:
            lines.append(Text("  ").append(pair))
    return lines


def _said(stage: _Stage) -> str:
    """A stage's note, after its state where the mark does not say it all."""
    named = "" if stage.state in ("waiting", RUNNING, "done") else stage.state
    return ", ".join(part for part in (named, stage.note) if part)


def _percent(value: float) -> str:
    return f"{value:.1%}"


_SHOWN: Sequence[tuple[str, str, Callable[[float], str]]] = (
    ("held_out_accuracy", "held-out", _percent),
    ("depth_mean", "depth", "{:.2f}".format),
    ("completion_tokens", "tokens", "{:.1f}".format),
    ("zero_variance_share", "zero variance", _percent),
    ("logprob_gap", "log-prob gap", "{:.1e}".format),
    ("stale_kl", "stale by", "{:.1e} nats".format),
    ("tokens_per_s", "tokens/s", "{:,.0f}".format),
    ("seconds_left", "left", duration),
)
_ALARMS: Sequence[tuple[str, str, Callable[[float], str]]] = (
    ("truncated_share", "truncated", _percent),
    ("unscored_share", "unscored", _percent),
    ("held_out_unscored_share", "held-out unscored", _percent),
    ("resampled_groups", "groups replaced", "{:.0f}".format),
    ("stopped_groups", "groups stopped", "{:.0f}".format),
    ("too_long_share", "left out as too long", _percent),
)
"""What is shown where it is not zero."""
