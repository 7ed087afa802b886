"""`stepwell verify`: a run folder against its own checksums."""

from pathlib import Path
from typing import Annotated

import typer

from pipeline.cli.answer import Answer, Json
from pipeline.errors import FAILED, OK


def verify(
    run_dir: Annotated[Path, typer.Argument(metavar="RUN", help="A run folder, such as runs/x.")],
    as_json: Json = False,
) -> Answer:
    """Check what a run made against its checksums, and hash its weights. Exit code 3: damaged."""
    from pipeline.watch.verify import show_verification, verify_run

    verification = verify_run(run_dir)
    return Answer(
        document=verification.document(),
        show=lambda: print("\n".join(show_verification(verification))),
        code=FAILED if verification.damaged else OK,
    )
