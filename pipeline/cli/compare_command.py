"""`stepwell compare`: two runs side by side."""

from pathlib import Path
from typing import Annotated

import typer

from pipeline.cli.answer import Answer, Json
from pipeline.errors import UsageError


def compare(
    run_a: Annotated[Path, typer.Argument(metavar="RUN_A", help="A run folder, such as runs/x.")],
    run_b: Annotated[Path, typer.Argument(metavar="RUN_B", help="Another.")],
    html: Annotated[
        Path | None, typer.Option("--html", help="Write a page too, such as compare.html.")
    ] = None,
    as_json: Json = False,
) -> Answer:
    """Compare two runs: recipes, models on equal prompts with paired tests, answers, curves."""
    if html is not None and not html.absolute().parent.is_dir():
        raise UsageError(f"--html {html}: there is no folder {html.parent}")
    from pipeline.watch.compare import comparison_of, document, show_comparison

    comparison = comparison_of(run_a, run_b)
    page = None
    if html is not None:
        from pipeline.watch.compare_page import write_page

        page = str(write_page(comparison, html))

    def show() -> None:
        show_comparison(comparison)
        if page is not None:
            print(f"page: {page}")

    return Answer(document={**document(comparison), "page": page}, show=show)
