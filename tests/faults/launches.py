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
COMMAND = (sys.executable, "-P", "-m", "pipeline", "run", "faults.yaml", "--json")
LAUNCHES = 4
LIMIT_S = 600.0
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
  reason: {kind: grpo, init: cold, prompts: train, rewards: [digits], steps: 5, lr: 1.0e-4,
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


def project(folder: Path, *, recipe: str = RECIPE) -> Path:
    """A folder to launch from."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "faults.yaml").write_text(recipe)
    (folder / "mine.py").write_text(REWARDS)
    return folder


def surroundings(project: Path, fault: Fault | None, **more: str) -> dict[str, str]:
    """Environment of a launch that meets a fault."""
    environment = os.environ | {"OMP_NUM_THREADS": "1"} | more
    if fault is not None:
        places = {"mark": str(project / "mark"), "run": str(project / "runs" / "faults")}
        environment["FAULT"] = json.dumps(dataclasses.asdict(fault) | places)
        path = environment.get("PYTHONPATH", "")
        environment["PYTHONPATH"] = f"{INJECT}{os.pathsep}{path}"
    return environment


def launch(project: Path, fault: Fault | None = None, **more: str) -> tuple[int, str]:
    """Run `faults.yaml` once; exit code and standard error. `more`: of the environment."""
    done = subprocess.run(
        COMMAND,
        cwd=project,
        env=surroundings(project, fault, **more),
        capture_output=True,
        text=True,
        timeout=LIMIT_S,
    )
    return done.returncode, done.stderr


def finished(project: Path, fault: Fault | None = None) -> list[tuple[int, str]]:
    """Launch until the run is done, at most a few times; what each launch ended with."""
    ends = []
    for _ in range(LAUNCHES):
        ends.append(launch(project, fault))
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
