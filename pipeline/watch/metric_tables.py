"""The metrics of a run as rows, as tables, as CSV."""

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from rich.table import Table
from rich.text import Text

from pipeline.recipe.recipe_errors import did_you_mean
from pipeline.watch.console import sparkline
from pipeline.watch.run_reading import RunReadError, metrics_by_part, recipe_of
from pipeline.watch.terminal import StandardOutput

Rows = Sequence[Mapping[str, Any]]
_COUNTERS = ("step", "steps", "seconds_left")  # say how far a row is, not what was measured
_SPARKS = 16  # means of as many parts of a stage


def metrics_by_stage(run_dir: Path, stage: str | None) -> Mapping[str, Rows]:
    """Rows of every stage and part that wrote some, in the order of the recipe; of one stage where
    it is named.

    Raises RunReadError where the folder is no run's, or the stage has none.
    """
    names = list(recipe_of(run_dir).get("stages") or {})
    rows = {
        part: part_rows
        for name in names
        for part, part_rows in metrics_by_part(run_dir, name).items()
        if part_rows
    }
    if stage is None:
        return rows
    mine = {part: r for part, r in rows.items() if part.partition(",")[0] == stage}
    if not mine:
        having = list(dict.fromkeys(part.partition(",")[0] for part in rows))
        raise RunReadError(
            f"stage {stage} of {run_dir} has no metrics{did_you_mean(stage, having)} "
            f"(stages with metrics: {', '.join(having) or 'none'})"
        )
    return mine


def csv_rows(stages: Mapping[str, Rows]) -> Iterator[list[Any]]:
    """A head, then a line a row: the stage, then every metric that any of them has."""
    keys = list(dict.fromkeys(key for rows in stages.values() for row in rows for key in row))
    yield ["stage", *keys]
    for stage, rows in stages.items():
        for row in rows:
            yield [stage, *(row.get(key, "") for key in keys)]


def show_metrics(stages: Mapping[str, Rows]) -> None:
    """Print a table a stage: its metrics' first, last and mean values, and their course."""
    console = StandardOutput()
    if not stages:
        console.print("no stage has metrics yet")
    for stage, rows in stages.items():
        last = rows[-1]
        total = f" of {last['steps']:g}" if "steps" in last else ""
        console.print(Text.assemble((stage, "bold"), f", step {last['step']:g}{total}"))
        console.print(_table(rows))
        console.print()


def _table(rows: Rows) -> Table:
    table = Table(box=None, padding=(0, 2, 0, 0), header_style="dim")
    table.add_column("metric", overflow="fold")
    for column in ("first", "last", "mean"):
        table.add_column(column, justify="right", no_wrap=True)
    table.add_column("course", no_wrap=True)
    keys = dict.fromkeys(key for row in rows for key in row if key not in _COUNTERS)
    for key in keys:
        values = [float(row[key]) for row in rows if isinstance(row.get(key), int | float)]
        if values:
            table.add_row(
                Text(key),
                f"{values[0]:.4g}",
                f"{values[-1]:.4g}",
                f"{sum(values) / len(values):.4g}",
                sparkline(_parts(values)),
            )
    return table


def _parts(values: Sequence[float]) -> list[float]:
    """At most `_SPARKS` means of neighbouring values."""
    count = min(len(values), _SPARKS)
    ends = [round(at * len(values) / count) for at in range(count + 1)]
    return [
        sum(values[start:end]) / (end - start) for start, end in zip(ends, ends[1:], strict=False)
    ]
