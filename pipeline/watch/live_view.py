"""`stepwell watch`: a run on the terminal, by textual, while it goes on elsewhere."""

from pathlib import Path
from typing import ClassVar

from rich.console import Group
from rich.text import Text
from textual.app import App, ComposeResult
from textual.binding import BindingType
from textual.containers import Horizontal, VerticalScroll
from textual.widgets import DataTable, Footer, RichLog, Sparkline, Static, TabbedContent, TabPane

from pipeline.errors import WrongInput
from pipeline.watch.console import described, duration
from pipeline.watch.live_reading import Moment, latest_rollouts, moment_of
from pipeline.watch.rollout_log import harmless, rollout_panel

REFRESH_S = 1.0
ROLLOUTS = 6
_MARKS = {"waiting": "○", "running": "▶", "done": "✓", "failed": "✗", "stopped": "■"}
_STYLES = {"running": "bold cyan", "done": "green", "failed": "bold red", "stopped": "yellow"}


class LiveView(App[None]):
    """Stages above; the current one's numbers with its curve, its rollouts and the log below."""

    TITLE = "stepwell watch"
    ENABLE_COMMAND_PALETTE = False
    CSS = """
    #stages { height: auto; max-height: 40%; }
    #curve { height: 5; margin: 1 1 0 1; }
    #numbers { padding: 0 1; }
    #head { padding: 0 1; background: $panel; }
    TabbedContent { height: 1fr; }
    RichLog, #written { padding: 0 1; }
    """
    BINDINGS: ClassVar[list[BindingType]] = [
        ("q", "quit", "Leave"),
        ("1", "tab('now')", "Now"),
        ("2", "tab('rollouts')", "Rollouts"),
        ("3", "tab('log')", "Log"),
    ]

    def __init__(self, run_dir: Path) -> None:
        super().__init__()
        self._run_dir = run_dir
        self._lines: list[str] = []
        self._place: tuple[str, int | None] | None = None  # stage and step of the rollouts shown

    def compose(self) -> ComposeResult:
        """The widgets, from top to bottom."""
        yield Static(id="head")
        yield DataTable(id="stages", cursor_type="none", show_header=False)
        with TabbedContent(initial="now"):
            with TabPane("Now", id="now"), VerticalScroll():
                yield Static(id="numbers")
                with Horizontal():
                    yield Sparkline([], id="curve")
            with TabPane("Rollouts", id="rollouts"), VerticalScroll():
                yield Static(id="written")
            with TabPane("Log", id="log"):
                yield RichLog(wrap=True, min_width=20, id="lines")
        yield Footer()

    def on_mount(self) -> None:
        """Look at once, and then every second."""
        self.query_one("#stages", DataTable).add_columns("", "stage", "kind", "time", "step")
        self.look()
        self.set_interval(REFRESH_S, self.look)

    def look(self) -> None:
        """Read the folder and show what it says."""
        head = self.query_one("#head", Static)
        try:
            moment = moment_of(self._run_dir)
        except WrongInput as error:  # the folder is moved or made anew meanwhile
            head.update(Text(str(error), "red"))
            return
        said = "   over" if moment.is_over else "   q leaves; the run goes on"
        head.update(Text(f"{self._run_dir}{said}"))
        self._show_stages(moment)
        self._show_numbers(moment)
        self._show_rollouts()
        self._show_log(moment)

    def action_tab(self, name: str) -> None:
        """Show one of the tabs."""
        self.query_one(TabbedContent).active = name

    def _show_stages(self, moment: Moment) -> None:
        table = self.query_one("#stages", DataTable)
        table.clear()
        for stage in moment.stages:
            style = _STYLES.get(stage.status, "dim")
            step = "" if stage.step is None else f"{stage.step:g}/{stage.steps or 0:g}"
            table.add_row(
                Text(_MARKS.get(stage.status, "•"), style),
                Text(stage.name, style),
                Text(stage.kind, "dim"),
                Text(duration(stage.seconds) if stage.seconds else "", "dim"),
                Text(step if stage.status == "running" else "", style),
            )

    def _show_numbers(self, moment: Moment) -> None:
        self.query_one("#curve", Sparkline).data = list(moment.series)
        if moment.current is None:
            self.query_one("#numbers", Static).update(Text("nothing is measured yet", "dim"))
            return
        row = moment.row
        lines = [Text.assemble((moment.current, "bold cyan"), f"   step {row.get('step', 0):g}")]
        lines += [Text.assemble((f"{label} ", "dim"), value) for label, value in described(row)]
        if moment.series:
            first, last = moment.series[0], moment.series[-1]
            said = f"{moment.series_name} by step, {first:.3g} at first, {last:.3g} now:"
            lines += [Text(), Text(said, "dim")]
        self.query_one("#numbers", Static).update(Group(*lines))

    def _show_rollouts(self) -> None:
        rows = latest_rollouts(self._run_dir, limit=ROLLOUTS)
        place = (rows[0]["stage"], rows[0]["step"]) if rows else None
        if place == self._place and rows:
            return
        self._place = place
        content = Group(*map(rollout_panel, rows)) if rows else Text("no rollouts yet", "dim")
        self.query_one("#written", Static).update(content)

    def _show_log(self, moment: Moment) -> None:
        log = self.query_one("#lines", RichLog)
        known = self._lines[-1:]
        new = list(moment.log)
        if known and known[0] in new:
            new = new[len(new) - new[::-1].index(known[0]) :]
        for line in new:
            log.write(Text(harmless(line)))
        self._lines = list(moment.log)
