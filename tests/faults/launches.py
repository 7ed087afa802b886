"""Launching runs that meet a fault, and what of a run has to be the same afterwards."""

import dataclasses
import json
import os
import signal
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pipeline.errors import OK
from pipeline.generate.journal import Journal

INJECT = Path(__file__).parent / "inject"
LAUNCHES = 4
LIMIT_S = 600.0
TIMES = ("seconds", "_per_s", "matmul", "gflops")  # in names of metrics that no two runs share


@dataclass(frozen=True, kw_only=True)
class Fault:
    """A signal to a process at the first event on a path; see `inject/sitecustomize.py`."""

    event: str
    path: str
    target: str = "self"
    number: signal.Signals = signal.SIGKILL


def launch(project: Path, fault: Fault | None = None, *overrides: str) -> tuple[int, str]:
    """Run `faults.yaml` once; exit code and standard error."""
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    if fault is not None:
        more = {"mark": str(project / "mark"), "run": str(project / "runs" / "faults")}
        environment["FAULT"] = json.dumps(dataclasses.asdict(fault) | more)
        path = environment.get("PYTHONPATH", "")
        environment["PYTHONPATH"] = f"{INJECT}{os.pathsep}{path}"
    command = [sys.executable, "-P", "-m", "pipeline", "run", "faults.yaml", "--json", *overrides]
    done = subprocess.run(
        command, cwd=project, env=environment, capture_output=True, text=True, timeout=LIMIT_S
    )
    return done.returncode, done.stderr


def finished(project: Path, fault: Fault | None = None, *overrides: str) -> list[tuple[int, str]]:
    """Launch until the run is done, at most a few times; what each launch ended with."""
    ends = []
    for _ in range(LAUNCHES):
        ends.append(launch(project, fault, *overrides))
        if ends[-1][0] == OK:
            return ends
    raise AssertionError("\n".join(text[-3000:] for _, text in ends))


def outcome(run: Path) -> dict[str, Any]:
    """All that a fault must not change: weights, journals, metrics but for times."""
    done = subprocess.run(
        [sys.executable, "-P", "-m", "pipeline", "verify", str(run), "--json"],
        capture_output=True,
        text=True,
    )
    verification = json.loads(done.stdout)
    assert verification["ok"], verification
    return {
        "weights": {
            name: digest
            for name, digest in verification["weights_sha256"].items()
            if ".old-" not in name
        },
        "journals": {
            str(folder.relative_to(run)): _journal(folder)
            for folder in sorted(
                {file.parent for file in run.rglob("step-*.parquet") if ".old-" not in str(file)}
            )
        },
        "metrics": {
            str(file.relative_to(run)): _rows(file)
            for file in sorted((run / "work").rglob("metrics.jsonl"))
            if ".old-" not in str(file)
        },
    }


def _journal(folder: Path) -> dict[int, Any]:
    journal = Journal(folder)
    steps = {number: journal.read(number) for number in journal.steps()}
    return {number: step.groups for number, step in steps.items() if step is not None}


def _rows(file: Path) -> list[dict[str, float]]:
    rows = [json.loads(line) for line in file.read_text().splitlines()]
    return [
        {key: value for key, value in row.items() if not any(word in key for word in TIMES)}
        for row in rows
    ]
