"""Where a run's numbers come from: when, with which code and versions, on what, and what the
recipe left open."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from pipeline.artifacts import MANIFEST, published
from pipeline.stages.launch_record import launches_of
from pipeline.watch.run_reading import json_of

FIRST_PACKAGES = ("stepwell", "python", "torch")


def provenance(run_dir: Path) -> list[tuple[str, str]]:
    """(what, value) lines. Of runs that wrote no launches what their stages' manifests say."""
    launches = launches_of(run_dir)
    manifests = [json_of(path / MANIFEST) for path in published(run_dir / "stages")]
    made = sorted((m for m in manifests if m.get("created")), key=lambda m: m["created"])
    surroundings = [m["surroundings"] for m in made if m.get("surroundings")]
    last = launches[-1] if launches else {}
    around = surroundings[-1] if surroundings else {}
    lines = [
        ("started", _times([launch["started"] for launch in launches])),
        ("finished stages", _span([m["created"] for m in made])),
        ("commit", _commits(launches)),
        ("versions", _pairs(last.get("packages") or around.get("packages") or {})),
        ("machine", _pairs(last.get("machine") or around.get("machine") or {}, named=True)),
        ("chosen", _pairs(last.get("chosen") or {}, named=True)),
        ("changes on the way", "; ".join(_changes(surroundings))),
    ]
    return [(name, value) for name, value in lines if value]


def _times(starts: Sequence[str]) -> str:
    if len(starts) < 2:
        return "".join(map(_clock, starts))
    return f"{_clock(starts[0])}; gone on with {len(starts) - 1} times, last {_clock(starts[-1])}"


def _span(created: Sequence[str]) -> str:
    if not created:
        return ""
    first, last = _clock(created[0]), _clock(created[-1])
    return last if first == last else f"from {first} to {last}"


def _clock(time: str) -> str:
    """`2026-11-27T01:44:43+0000` as people write it."""
    return time.replace("T", " ").replace("+0000", " UTC")


def _commits(launches: Sequence[Mapping[str, Any]]) -> str:
    return ", ".join(dict.fromkeys(str(row["commit"]) for row in launches if row.get("commit")))


def _pairs(values: Mapping[str, Any], *, named: bool = False) -> str:
    order = [key for key in FIRST_PACKAGES if key in values]
    keys = [*order, *(key for key in values if key not in order)]
    shown = [(key, values[key]) for key in keys if values[key] not in (None, "")]
    return ", ".join(f"{key}: {value}" if named else f"{key} {value}" for key, value in shown)


def _changes(surroundings: Sequence[Mapping[str, Any]]) -> list[str]:
    return list(dict.fromkeys(c for row in surroundings for c in row.get("changes") or ()))
