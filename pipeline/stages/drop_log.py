"""What a run left out: logged as it happens, and read from its folder afterwards.

Stages and prompts keep their drops in their manifests; prompts without room are the run's own.
"""

import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from pipeline.artifacts import MANIFEST, published, write_atomic
from pipeline.measure.drops import Drop, drop_rows
from pipeline.stages.context import Console

ROOM_FILE = "room.json"  # in a run folder: the prompts that were left out for their length


def too_long(info: Mapping[str, Any], what: str, *, tokens: int, key: str) -> Drop:
    """What a training left out for its length, from the counts that it gives: `rows` it used, and
    `rows_too_long` (or pairs, or prompts)."""
    dropped = info[f"{what}_too_long"]
    return Drop(
        what=what,
        reason=f"longer than {tokens:,} tokens",
        dropped=dropped,
        total=info[what] + dropped,
        key=key,
    )


def log_drops(place: str, info: Mapping[str, Any], console: Console) -> None:
    """Log the `drops` of a manifest's `info`, a line each."""
    for drop in info.get("drops", ()):
        console.log(f"{place}: {Drop(**drop).sentence}")


def write_room_drops(run_dir: Path, drops: Iterable[Drop]) -> None:
    """Keep what had no room in the model's positions."""
    write_atomic(run_dir / ROOM_FILE, json.dumps(drop_rows(drops), indent=1))


def run_drops(run_dir: Path) -> list[dict[str, Any]]:
    """Every drop of a run, each with its `place`: `prompts.NAME` or `stages.NAME`."""
    room = run_dir / ROOM_FILE
    rows = json.loads(room.read_text()) if room.is_file() else []
    drops = [{"place": row["key"].rpartition(".")[0], **row} for row in rows]
    for section, folder in (("prompts", "inputs"), ("stages", "stages")):
        for path in published(run_dir / folder):
            info = json.loads((path / MANIFEST).read_text())["info"]
            drops += [{"place": f"{section}.{path.name}", **row} for row in info.get("drops", ())]
    return drops
