"""`stepwell leaderboard`: the models of several runs by accuracy, FLOPs and joules."""

from pathlib import Path
from typing import Annotated

import typer

from pipeline.cli.answer import Answer, Json
from pipeline.errors import UsageError


def leaderboard(
    runs: Annotated[list[Path], typer.Argument(metavar="RUN...", help="Run folders.")],
    html: Annotated[
        Path | None, typer.Option("--html", help="Write a page too, such as leaderboard.html.")
    ] = None,
    as_json: Json = False,
) -> Answer:
    """Rank runs' models on equal prompts by accuracy, FLOPs and joules of an answer."""
    if html is not None and not html.absolute().parent.is_dir():
        raise UsageError(f"--html {html}: there is no folder {html.parent}")
    from pipeline.watch.leaderboard import boards_of, document, show_boards, write_page

    boards = boards_of(runs)
    page = None if html is None else str(write_page(boards, html))

    def show() -> None:
        show_boards(boards)
        if page is not None:
            print(f"page: {page}")

    return Answer(document={**document(boards), "page": page}, show=show)
