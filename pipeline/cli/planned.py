"""A recipe's plan, for the commands that begin with one."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from pipeline.cli.streams import say

if TYPE_CHECKING:
    from pipeline.plan.stage_plan import Plan


def planned(
    ref: str, overrides: Sequence[str], *, run_dir: Path | None = None, goes_on: bool = False
) -> "Plan":
    """As `pipeline.start.planned`, which is loaded here; what it tells goes to standard error."""
    from pipeline.start import planned as resolved

    return resolved(ref, overrides, tell=say, run_dir=run_dir, goes_on=goes_on)
