"""`stepwell replay`: a step of a run, scored anew."""

from pathlib import Path
from typing import Annotated

import typer

from pipeline.cli.answer import Answer, Json
from pipeline.cli.reward_commands import prompt_renderer


def replay(
    run_dir: Annotated[Path, typer.Argument(metavar="RUN", help="A run folder, such as runs/x.")],
    stage: Annotated[str, typer.Option(help="A GRPO stage.")],
    step: Annotated[int, typer.Option(help="One of its journaled steps.")],
    workers: Annotated[int, typer.Option(min=1, help="Processes that score.")] = 1,
    as_json: Json = False,
) -> Answer:
    """Score a journaled step again with the recipe's rewards as they are now, beside the stored."""
    from pipeline.watch.replay import replay as replayed
    from pipeline.watch.replay import show_replay

    found = replayed(
        run_dir, stage=stage, step=step, rendered=prompt_renderer(run_dir), workers=workers
    )
    return Answer(document=found.document(), show=lambda: show_replay(found))
