"""The parts of the stage: each a folder, whole or absent, made once.

work/<stage>/parts/.5-rl-0      while it is being made; emptied when it starts
work/<stage>/parts/5-rl-0       renamed once it is whole: part.json and what it made
work/<stage>/rl-0, rollouts     what a part keeps on its way: steps, journals of rollouts
"""

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Concatenate, ParamSpec

from pipeline.artifacts import fresh_folder, place, write_atomic
from pipeline.depth.bench import Bench
from pipeline.stages.support import MODEL_FOLDER, check_stop

PART_FILE = "part.json"

P = ParamSpec("P")


@dataclass(frozen=True, kw_only=True)
class Part:
    """A finished part."""

    folder: Path
    info: Mapping[str, Any]

    @property
    def model(self) -> Path:
        """The model that it made."""
        return self.folder / MODEL_FOLDER


def part(
    bench: Bench,
    name: str,
    make: Callable[Concatenate[Bench, Path, P], Mapping[str, Any]],
    *args: P.args,
    **arguments: P.kwargs,
) -> Part:
    """The part `name`, by `make(bench, folder, **arguments)`, unless an earlier run has made it.

    `make` fills an empty folder and returns the part's info. What it cannot do in one go it keeps
    elsewhere in `ctx.work`.

    Raises Stopped when the user asked for an end.
    """
    folder = bench.ctx.work / "parts" / name
    if not (folder / PART_FILE).is_file():
        check_stop(bench.ctx, bench.plan)
        bench.ctx.console.log(f"{bench.plan.name}: {name}")
        draft = fresh_folder(bench.ctx.work / "parts" / f".{name}")
        info = make(bench, draft, *args, **arguments)
        write_atomic(draft / PART_FILE, json.dumps(info, indent=1))
        place(draft, folder)
    return Part(folder=folder, info=json.loads((folder / PART_FILE).read_text()))
