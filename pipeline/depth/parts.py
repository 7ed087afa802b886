"""The parts of the stage: each a folder, whole or absent, made once."""

import json
import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pipeline.artifacts import fresh_folder, write_atomic
from pipeline.plan.stage_plan import StagePlan
from pipeline.stages.context import RunContext
from pipeline.stages.support import check_stop

PART_FILE = "part.json"


@dataclass(frozen=True, kw_only=True)
class Part:
    """A finished part."""

    folder: Path
    info: Mapping[str, Any]


def part(
    plan: StagePlan, ctx: RunContext, name: str, make: Callable[[Path], Mapping[str, Any]]
) -> Part:
    """The part `name`; `make` fills a folder and returns its info, unless an earlier run has.

    What `make` cannot do in one go it keeps elsewhere in `ctx.work`: its folder starts empty.

    Raises Stopped when the user asked for an end.
    """
    folder = ctx.work / "parts" / name
    if not (folder / PART_FILE).is_file():
        check_stop(ctx, plan)
        ctx.console.log(f"{plan.name}: {name}")
        draft = fresh_folder(ctx.work / "parts" / f".{name}")
        info = make(draft)
        write_atomic(draft / PART_FILE, json.dumps(info, indent=1))
        os.rename(draft, folder)
    return Part(folder=folder, info=json.loads((folder / PART_FILE).read_text()))
