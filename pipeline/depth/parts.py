"""The parts of the stage: each a folder, whole or absent, made once.

work/<stage>/parts/.5-rl-0      while it is being made; emptied when it starts
work/<stage>/parts/5-rl-0       an artifact, once it is whole: what it made, and its manifest
work/<stage>/rl-0, rollouts     what a part keeps on its way: steps, journals of rollouts
work/<stage>/parts.jsonl        what each took when it was made
"""

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Concatenate, ParamSpec

from pipeline.artifacts import fresh_folder, publish
from pipeline.depth.bench import Bench
from pipeline.measure.ledger import PREFIX
from pipeline.stages.run_folder import standing
from pipeline.stages.support import MODEL_FOLDER, check_stop
from pipeline.train.job import PARTS_FILE, whole_rows

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

    `make` fills an empty folder and returns the part's info. A damaged part is set aside and made
    again. What it cannot do in one go it keeps elsewhere in `ctx.work`.

    Raises Stopped when the user asked for an end.
    """
    return _made(bench, name, name, make, *args, **arguments)


def last_part(
    bench: Bench,
    name: str,
    make: Callable[Concatenate[Bench, Path, P], Mapping[str, Any]],
    *args: P.args,
    **arguments: P.kwargs,
) -> Part:
    """The part that alone reads the stage's `late_keys`: made again where these have changed."""
    return _made(bench, name, bench.plan.fingerprint, make, *args, **arguments)


def _made(
    bench: Bench,
    name: str,
    fingerprint: str,
    make: Callable[Concatenate[Bench, Path, P], Mapping[str, Any]],
    *args: P.args,
    **arguments: P.kwargs,
) -> Part:
    folder = bench.ctx.work / "parts" / name
    artifact = standing(folder, fingerprint, tell=bench.ctx.console.log)
    if artifact is None:
        check_stop(bench.ctx, bench.plan)
        bench.ctx.console.log(f"{bench.plan.name}: {name}")
        bench.clock.take()  # what came between parts is neither's
        draft = fresh_folder(bench.ctx.work / "parts" / f".{name}")
        info = make(bench, draft, *args, **arguments)
        artifact = publish(
            draft, folder, kind="part", stage=bench.plan.name, fingerprint=fingerprint, info=info
        )
        _note(bench, name)
    return Part(folder=folder, info=artifact.manifest.info)


def _note(bench: Bench, name: str) -> None:
    """Write down what a part took: `step` counts parts, and what trains in a folder of its own has
    its phases in the metrics there."""
    file = bench.ctx.work / PARTS_FILE
    took = bench.clock.take()
    phases = {key: s for key, s in took.items() if key.startswith(PREFIX) and s}
    phases.pop(f"{PREFIX}idle", None)  # a stage's is what nothing explains
    step = len(whole_rows(file)) + 1
    row = {"step": step, "part": name, "part_seconds": took["step_seconds"], **phases}
    with file.open("a") as lines:
        lines.write(json.dumps(row) + "\n")
