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

from pipeline.errors import FAILED, OK, STOPPED
from pipeline.generate.journal import Journal
from pipeline.train.job import whole_rows

INJECT = Path(__file__).parent / "inject"
COMMAND = (sys.executable, "-P", "-m", "pipeline", "run", "faults.yaml", "--json")
MORE_LAUNCHES = 3
ENDS = (OK, FAILED, STOPPED, -signal.SIGKILL)
LIMIT_S = 1800.0
TIMES = ("seconds", "_per_s", "matmul", "gflops")  # in names of metrics that no two runs share


RECIPE = """
name: faults
seed: 3
model: {scratch: {hidden: 64, core: 1, heads: 2, mlp: 128, max_position: 256, iterations: 2}}
prompts:
  train: {task: sums, size: 60, difficulty: [2, 3]}
rewards:
  digits: {use: "mine.py:digits"}
stages:
  cold: {kind: sft, rows: train.worked, lr: 1.0e-3, batch_rows: 16, max_tokens: 200, save_steps: 2}
  reason: {kind: grpo, init: cold, prompts: train, rewards: [digits], steps: 11, lr: 1.0e-4,
    prompts_per_step: 4, samples_per_prompt: 4, max_tokens: 16, save_steps: 2}
hardware: {device: cpu, engine: native}
"""
REWARDS = """
def digits(sample):
    return sum(c.isdigit() for c in sample.completion) / 24


def even(sample):
    return float(sum(map(ord, sample.completion)) % 2 == 0)
"""


@dataclass(frozen=True, kw_only=True)
class Fault:
    """A signal to a process at the first event on a path, or a full disk; see
    `inject/sitecustomize.py`."""

    event: str
    path: str
    target: str = "self"
    number: signal.Signals = signal.SIGKILL
    fill: bool = False
    still: bool = False


def project(folder: Path, *, recipe: str = RECIPE) -> Path:
    """A folder to launch from."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "faults.yaml").write_text(recipe)
    (folder / "mine.py").write_text(REWARDS)
    return folder


def surroundings(project: Path, *faults: Fault, **more: str) -> dict[str, str]:
    """Environment of a launch that meets faults, one after the other; `more` of it."""
    environment = os.environ | {"OMP_NUM_THREADS": "1"} | more
    if faults:
        run = str(project / "runs" / "faults")
        rows = [
            {**dataclasses.asdict(fault), "mark": str(mark), "run": run}
            for fault, mark in zip(faults, marks(project, len(faults)), strict=True)
        ]
        environment["FAULTS"] = json.dumps(rows)
        path = environment.get("PYTHONPATH", "")
        environment["PYTHONPATH"] = f"{INJECT}{os.pathsep}{path}"
    return environment


def marks(project: Path, count: int) -> list[Path]:
    """Files that are there once a fault has happened."""
    return [project / f"mark-{number}" for number in range(count)]


def launch(project: Path, *faults: Fault, **more: str) -> tuple[int, str]:
    """Run `faults.yaml` once; exit code and standard error."""
    done = subprocess.run(
        COMMAND,
        cwd=project,
        env=surroundings(project, *faults, **more),
        capture_output=True,
        text=True,
        timeout=LIMIT_S,
    )
    return done.returncode, done.stderr


def finished(project: Path, *faults: Fault) -> list[tuple[int, str]]:
    """Launch until the run is done; what each launch ended with.

    Raises AssertionError where it is not done in a launch a fault and a few more, a fault did not
    happen, or a launch ended otherwise than by a kill or an expected end.
    """
    ends: list[tuple[int, str]] = []
    while not ends or ends[-1][0] != OK:
        ends.append(launch(project, *faults))
        words = "\n\n".join(f"exit code {code}: {text[-3000:]}" for code, text in ends)
        assert len(ends) < len(faults) + MORE_LAUNCHES, words
        assert ends[-1][0] in ENDS, words
        assert "Traceback" not in ends[-1][1], words
    happened = zip(faults, marks(project, len(faults)), strict=True)
    missing = [fault for fault, mark in happened if not mark.exists()]
    assert not missing, f"{missing} did not happen"
    return ends


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
    return [
        {key: value for key, value in row.items() if not any(word in key for word in TIMES)}
        for row in whole_rows(file)
    ]
