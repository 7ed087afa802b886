"""What went wrong in a run, or looked as if: from its metrics and its log."""

import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from pipeline.stages.health_watch import HealthWatch
from pipeline.watch.run_reading import metrics_by_part

_WARNING = re.compile(r"^(\d{4}-\d\d-\d\d \d\d:\d\d:\d\d) warning: (.*)$")
_LOG_LINES = 12  # of the log's end beside a failure


def alarms_of(run_dir: Path, stages: Sequence[str]) -> list[dict[str, str]]:
    """Every warning of the run's log, and what its metrics show that no log says: `where`, `when`
    and `sentence`."""
    logged = list(_warnings(run_dir, stages))
    said = {row["sentence"] for row in logged}
    return [
        *logged,
        *(row for row in _signs(run_dir, stages) if row["sentence"] not in said),
    ]


def log_end(run_dir: Path) -> list[str]:
    """The last lines of the run's log; none where it has none."""
    return _log(run_dir)[-_LOG_LINES:]


def _log(run_dir: Path) -> list[str]:
    file = run_dir / "logs" / "run.log"
    return file.read_text(errors="replace").splitlines() if file.is_file() else []


def _warnings(run_dir: Path, stages: Sequence[str]) -> Iterator[dict[str, str]]:
    known: set[tuple[str, str]] = set()
    for line in _log(run_dir):
        if (match := _WARNING.match(line)) is None:
            continue
        where, _, sentence = match[2].partition(": ")
        if where not in stages or not sentence:
            where, sentence = "", match[2]
        if (where, sentence) not in known:  # a launch that goes on says some of them again
            known.add((where, sentence))
            yield {"where": where, "when": match[1], "sentence": sentence}


def _signs(run_dir: Path, stages: Sequence[str]) -> Iterator[dict[str, str]]:
    for stage in stages:
        for part, rows in metrics_by_part(run_dir, stage).items():
            health = HealthWatch()
            for row in rows:
                for sentence in health.see(row):
                    yield {"where": part, "when": f"step {row['step']:g}", "sentence": sentence}


def unended(state: Sequence[dict[str, Any]], *, is_held: bool) -> str | None:
    """The stage that the run says is running while no process is in its folder; None: no such."""
    running = [stage["name"] for stage in state if stage["status"] == "running"]
    return running[0] if running and not is_held else None
