"""Runs' models side by side: accuracy with its interval, FLOPs and joules of an answer."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from markupsafe import Markup
from matplotlib.axes import Axes
from matplotlib.ticker import EngFormatter, PercentFormatter
from rich.table import Table

from pipeline.artifacts import Artifact, ArtifactError, open_artifact, published, write_atomic
from pipeline.errors import WrongInput
from pipeline.measure.leaderboard import Entry, Ranking, ranked
from pipeline.watch.page import page_environment
from pipeline.watch.run_reading import run_names
from pipeline.watch.svg_picture import COLOURS, svg
from pipeline.watch.terminal import StandardOutput

PAGE = "leaderboard.html"
_SI = EngFormatter(sep="", places=1)


class LeaderboardError(WrongInput):
    """There is nothing to rank; the message says what is missing where."""


@dataclass(frozen=True, kw_only=True)
class Board:
    """Models that answered the same prompts."""

    prompts: str  # the entry's name
    fingerprint: str  # of the prompts
    problems: int
    ranking: Ranking

    @property
    def short(self) -> str:
        """What tells prompts apart that have one name."""
        return self.fingerprint[:8]


def boards_of(run_dirs: Sequence[Path]) -> list[Board]:
    """A board for each set of prompts on which runs evaluated models, in the order of the runs.

    Prompts are the same where their fingerprints are, whatever a recipe calls them. Runs are called
    by their folders' names, and by their paths where two have the same.

    Raises LeaderboardError where a folder has no finished evaluation; it names it.
    """
    names = run_names(run_dirs)
    sets: dict[str, tuple[str, int, list[Entry]]] = {}
    for run_dir in dict.fromkeys(run_dirs):
        for artifact in _evaluations(run_dir):
            for row in artifact.manifest.info["results"]:
                key = artifact.manifest.inputs[f"prompts:{row['prompts']}"]
                _, _, entries = sets.setdefault(key, (row["prompts"], row["problems"], []))
                entries.append(_entry(names[run_dir], artifact.manifest.stage, row))
    return [
        Board(prompts=name, fingerprint=key, problems=problems, ranking=ranked(entries))
        for key, (name, problems, entries) in sets.items()
    ]


def document(boards: Sequence[Board]) -> dict[str, Any]:
    """What `stepwell leaderboard --json` prints."""
    return {
        "boards": [
            {
                "prompts": board.prompts,
                "fingerprint": board.fingerprint,
                "problems": board.problems,
                "hypervolume": board.ranking.hypervolume,
                "best_hypervolume": board.ranking.best_hypervolume,
                "rows": rows_of(board),
            }
            for board in boards
        ]
    }


def rows_of(board: Board) -> list[dict[str, Any]]:
    """A board's entries, ranked."""
    ranking = board.ranking
    return [
        {
            "rank": place + 1,
            **asdict(entry),
            "flops_per_correct": entry.per_correct(entry.flops_per_answer),
            "joules_per_correct": entry.per_correct(entry.joules_per_answer),
            "on_front": ranking.on_front[place],
            "on_joules_front": ranking.on_joules_front[place],
        }
        for place, entry in enumerate(ranking.entries)
    ]


def show_boards(boards: Sequence[Board]) -> None:
    """Print tables."""
    console = StandardOutput()
    for board in boards:
        console.print(f"{board.prompts}, {board.problems:,} problems ({board.short})", style="bold")
        console.print(_table(board))
        for run, volume in board.ranking.hypervolume.items():
            console.print(f"hypervolume of {run}: {volume:.3f}")
        console.print()
    console.print(
        "* no other model is as right for fewer FLOPs; /right: of a right answer; joules of "
        "different sources are never compared",
        style="dim",
    )


def write_page(boards: Sequence[Board], out: Path) -> Path:
    """Write the boards as one HTML file that needs no network."""
    environment = page_environment()
    environment.filters |= {"percent": "{:.1%}".format, "si": lambda value: _si(value) or "–"}
    page = environment.get_template("leaderboard.html.j2").render(
        boards=[
            {"board": board, "rows": rows_of(board), "picture": _picture(board)} for board in boards
        ]
    )
    write_atomic(out, page)
    return out


def _table(board: Board) -> Table:
    """A line a model, in 80 columns where there is one run."""
    rows = rows_of(board)
    several = len({row["run"] for row in rows}) > 1
    table = Table(box=None, padding=(0, 2, 0, 0), header_style="dim")
    for column in ("", "run", "model") if several else ("", "model"):
        table.add_column(column, no_wrap=True)
    for column in ("accuracy", "95% interval", "FLOPs", "FLOPs/right", "J/right"):
        table.add_column(column, justify="right", no_wrap=True)
    table.add_column("energy", no_wrap=True)
    for row in rows:
        names = [row["run"], row["model"]] if several else [row["model"]]
        table.add_row("*" if row["on_front"] else "", *names, *_cells(row))
    return table


def _cells(row: Mapping[str, Any]) -> list[str]:
    measured = ("flops_per_answer", "flops_per_correct", "joules_per_correct")
    return [
        f"{row['accuracy']:.1%}",
        f"{row['ci_low']:.1%} to {row['ci_high']:.1%}",
        *(_si(row[key]) for key in measured),
        row["energy_source"] or "",
    ]


def _si(value: float | None) -> str:
    return "" if value is None else _SI(value)


def _evaluations(run_dir: Path) -> list[Artifact]:
    """The finished evaluations of a run."""
    if not run_dir.is_dir():
        raise LeaderboardError(f"{run_dir}: there is no such folder")
    try:
        artifacts = [open_artifact(f, verify=False) for f in published(run_dir / "stages")]
    except ArtifactError as error:
        raise LeaderboardError(f"{error}; `stepwell verify {run_dir}` says more") from None
    evaluations = [a for a in artifacts if a.manifest.kind == "report"]
    if not evaluations:
        raise LeaderboardError(
            f"{run_dir} has no finished evaluate stage: run its recipe to the end, or name another "
            "run folder, such as runs/quickstart"
        )
    return evaluations


def _entry(run: str, stage: str, row: Mapping[str, Any]) -> Entry:
    keys = ("flops_per_answer", "joules_per_answer", "energy_source")
    return Entry(
        run=run,
        stage=stage,
        model=row["model"],
        accuracy=row["accuracy"],
        ci_low=row["ci_low"],
        ci_high=row["ci_high"],
        **{key: row.get(key) for key in keys},
    )


def _picture(board: Board) -> Markup | None:
    """Accuracy against FLOPs, the front as a line; None where no FLOPs are known."""
    known = [row for row in rows_of(board) if row["flops_per_answer"] is not None]
    if not known:
        return None

    def draw(axes: Axes) -> None:
        runs = list(dict.fromkeys(row["run"] for row in known))
        front = sorted((r["flops_per_answer"], r["accuracy"]) for r in known if r["on_front"])
        axes.step(*zip(*front, strict=True), where="post", color=COLOURS[-1], linewidth=1, zorder=1)
        for run, colour in zip(runs, COLOURS * len(runs), strict=False):
            rows = [row for row in known if row["run"] == run]
            costs = [row["flops_per_answer"] for row in rows]
            values = [row["accuracy"] for row in rows]
            low = [max(row["accuracy"] - row["ci_low"], 0.0) for row in rows]
            high = [max(row["ci_high"] - row["accuracy"], 0.0) for row in rows]
            axes.errorbar(costs, values, yerr=(low, high), fmt="o", color=colour, label=run)
            for row in rows:
                place = (row["flops_per_answer"], row["accuracy"])
                axes.annotate(
                    row["model"], place, xytext=(5, 4), textcoords="offset points", fontsize=8
                )
        axes.xaxis.set_major_formatter(EngFormatter(sep=""))
        axes.yaxis.set_major_formatter(PercentFormatter(1.0, decimals=0))
        axes.set_xlabel("FLOPs per answer")
        axes.set_ylabel("accuracy")
        if len(runs) > 1:
            axes.legend(fontsize=8)

    return Markup(svg(draw, size=(7.2, 4.2), salt=f"leaderboard {board.fingerprint}"))
