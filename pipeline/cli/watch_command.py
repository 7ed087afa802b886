"""`stepwell watch`."""

import sys
import time
from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer

from pipeline.cli.answer import Answer, Json
from pipeline.errors import UsageError


def watch(
    run_dir: Annotated[Path, typer.Argument(metavar="RUN", help="A run folder, such as runs/x.")],
    as_json: Json = False,
) -> Answer:
    """Look at a run while it goes on in another terminal: stages, curve, rollouts, log."""
    from pipeline.watch.live_reading import moment_of

    moment = moment_of(run_dir)
    if not as_json:
        if not (sys.stdin.isatty() and sys.stdout.isatty()):
            raise UsageError("watch draws on a terminal; give --json for what it would show now")
        from pipeline.watch.live_view import LiveView

        LiveView(run_dir).run()
        moment = moment_of(run_dir)
    ends = {stage.name: stage.status for stage in moment.stages}
    said = ", ".join(f"{name} {status}" for name, status in ends.items())
    document = {**asdict(moment), "over": moment.is_over, "when": time.time()}
    return Answer(document=document, show=lambda: print(said))
