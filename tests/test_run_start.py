"""Runs that end before their first stage: one sentence and an exit code, never a traceback."""

import json
import os
import shutil
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from pipeline.errors import FAILED, WRONG
from pipeline.watch.report import write_report

ROOT = Path(__file__).resolve().parents[1]
RECIPE = """
name: start
model: {scratch: {hidden: 32, layers: 1, heads: 1, mlp: 64}}
prompts:
  train: {task: swaps, size: 10, difficulty: [1, 2]}
rewards:
  answer: {use: "builtin:exact_match"}
stages:
  cold: {kind: sft, rows: train.worked, max_tokens: 64}
"""


@pytest.fixture
def project(tmp_path: Path) -> Path:
    (tmp_path / "start.yaml").write_text(RECIPE)
    return tmp_path


def failure(project: Path, *options: str) -> dict[str, Any]:
    """The document of a run that fails, seen from outside."""
    done = subprocess.run(
        [sys.executable, "-P", "-m", "pipeline", "run", "start.yaml", *options, "--json"],
        cwd=project,
        env=os.environ | {"OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        timeout=300,
    )
    document = json.loads(done.stdout)
    assert document["exit_code"] == done.returncode
    assert "Traceback" not in done.stderr
    assert "Traceback" not in document["error"]
    return document


def test_a_run_folder_that_is_a_file(project: Path) -> None:
    (project / "taken").write_text("")
    for folder in ("taken", "taken/run"):
        document = failure(project, "--run-dir", folder)
        assert document["exit_code"] == WRONG
        assert "no run can be made here" in document["error"]
        assert "--run-dir" in document["error"]


def test_a_cluster_that_nobody_runs(project: Path) -> None:
    began = time.monotonic()
    document = failure(project, "hardware.ray_address=127.0.0.1:1")
    assert document["exit_code"] == FAILED
    assert "no Ray cluster answers at 127.0.0.1:1" in document["error"]
    assert time.monotonic() - began < 90  # most of it for imports on a busy machine


def test_more_than_this_machine_has(project: Path) -> None:
    """A cluster here cannot grow, so nothing is waited for."""
    document = failure(project, "hardware.device=cuda")
    assert document["exit_code"] == FAILED
    assert "places of 1 x 1 CPU, 2 x 1 CPU + 1 GPU" in document["error"]
    assert "set hardware.device: cpu" in document["error"]


def test_a_base_model_that_does_not_load(project: Path) -> None:
    """A plan reads no weights: what is wrong inside them is seen when they are loaded."""
    shutil.copytree(ROOT / "data" / "models" / "tiny", project / "odd")
    weights = project / "odd" / "model.safetensors"
    weights.write_bytes(weights.read_bytes().replace(b'"F32"', b'"F31"', 1))
    document = failure(project, "model={path: odd}")
    assert document["exit_code"] == WRONG
    assert "the base model (path " in document["error"]
    assert "cannot be loaded" in document["error"]


def test_a_process_that_dies_while_it_starts(project: Path) -> None:
    """Its log cannot be written: there is a folder in its place. The end is kept, and reported."""
    (project / "run" / "logs" / "trainer-0.log").mkdir(parents=True)
    document = failure(project, "--run-dir", "run")
    assert document["exit_code"] == FAILED
    assert "trainer-0 died" in document["error"]
    (row,) = json.loads((project / "run" / "state.json").read_text())
    assert row["status"] == "failed"
    assert "trainer-0 died" in row["error"]
    assert "trainer-0 died" in (project / "run" / "logs" / "run.log").read_text()
    assert "trainer-0 died" in write_report(project / "run").read_text()


def test_a_folder_of_logs_that_is_a_file(project: Path) -> None:
    (project / "run").mkdir()
    (project / "run" / "logs").write_text("")
    document = failure(project, "--run-dir", "run")
    assert document["exit_code"] == WRONG
    assert "the run's log cannot be written" in document["error"]
