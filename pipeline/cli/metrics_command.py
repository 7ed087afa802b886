"""`stepwell metrics`: the numbers that a run's stages wrote, step by step."""

import csv
import io
from pathlib import Path
from typing import Annotated

import typer

from pipeline.cli.answer import Answer, Json
from pipeline.errors import UsageError


def metrics(
    run_dir: Annotated[Path, typer.Argument(metavar="RUN", help="A run folder, such as runs/x.")],
    stage: Annotated[str | None, typer.Option(help="Default: every stage that has some.")] = None,
    as_csv: Annotated[bool, typer.Option("--csv", help="All rows as CSV.")] = False,
    as_json: Json = False,
) -> Answer:
    """Show what a run's stages measured: first, last and mean of every metric, or all rows."""
    if as_csv and as_json:
        raise UsageError("--csv and --json are two forms of one answer: give one of them")
    from pipeline.watch.metric_tables import csv_rows, metrics_by_stage, show_metrics
    from pipeline.watch.run_reading import finite

    rows = metrics_by_stage(run_dir, stage)

    def show() -> None:
        if not as_csv:
            show_metrics(rows)
            return
        text = io.StringIO()
        csv.writer(text, lineterminator="\n").writerows(csv_rows(rows))
        print(text.getvalue(), end="")

    stages = {part: finite(part_rows) for part, part_rows in rows.items()}
    return Answer(document={"run_dir": str(run_dir), "stages": stages}, show=show)
