"""A run whose rollouts are a step ahead, seen from outside: killed with SIGKILL at two moments, it
ends with the weights of an uninterrupted one, bit for bit."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from pipeline.generate.journal import Journal

RECIPE = """
name: ahead
seed: 3
model: {scratch: {hidden: 64, core: 1, heads: 2, mlp: 128, max_position: 256, iterations: 2}}
prompts:
  train: {task: sums, size: 100, difficulty: [2, 3]}
  held_out: {task: sums, size: 20, split: test, difficulty: [2, 3]}
rewards:
  digits: {use: "rewards_of_mine.py:digits"}
stages:
  reason: {kind: grpo, prompts: train, rewards: [digits], ahead: 1, steps: 7, lr: 3.0e-3,
    prompts_per_step: 8, samples_per_prompt: 4, micro_batch_rows: 32, max_tokens: 24,
    save_steps: 2, reference_every: 3, watch: {prompts: held_out, every_steps: 3, size: 20}}
hardware: {engine: native}
"""
REWARD = '''
"""A user's own reward."""


def digits(sample):
    return sum(c.isdigit() for c in sample.completion) / 24
'''
LIMIT_S = 200.0


def start(project: Path, run_dir: str) -> subprocess.Popen[str]:
    command = [sys.executable, "-P", "-m", "pipeline", "run", "ahead.yaml"]
    return subprocess.Popen(
        [*command, "--run-dir", run_dir, "--json"],
        cwd=project,
        env=os.environ | {"OMP_NUM_THREADS": "1", "OMP_WAIT_POLICY": "PASSIVE"},
        stdout=subprocess.PIPE,
        stderr=(project / f"{run_dir}.log").open("a"),
        text=True,
        start_new_session=True,
    )


def killed(project: Path, run_dir: str, path: Path) -> None:
    """Start, and kill everything as soon as the file is there."""
    process = start(project, run_dir)
    limit = time.monotonic() + LIMIT_S
    while not path.exists():
        assert process.poll() is None, (project / f"{run_dir}.log").read_text()[-3000:]
        assert time.monotonic() < limit, f"{path.name} never came"
        time.sleep(0.02)
    os.killpg(process.pid, signal.SIGKILL)
    process.wait()


def finished(project: Path, run_dir: str) -> bytes:
    """Run to the end; the weights."""
    process = start(project, run_dir)
    process.communicate(timeout=LIMIT_S)
    assert process.returncode == 0, (project / f"{run_dir}.log").read_text()[-3000:]
    return (project / run_dir / "stages/reason/model/model.safetensors").read_bytes()


@pytest.mark.slow
def test_killed_runs_end_with_the_same_weights(tmp_path: Path) -> None:
    (tmp_path / "ahead.yaml").write_text(RECIPE)
    (tmp_path / "rewards_of_mine.py").write_text(REWARD)
    whole = finished(tmp_path, "whole")
    broken = tmp_path / "broken"
    killed(tmp_path, "broken", broken / "journal/reason/step-000003.parquet")
    killed(tmp_path, "broken", broken / "work/reason/checkpoints/checkpoint-4")
    assert finished(tmp_path, "broken") == whole
    for folder in (tmp_path / "whole", broken):
        rows = [json.loads(line) for line in (folder / "work/reason/metrics.jsonl").open()]
        assert [row.get("staleness", 0.0) for row in rows] == [0.0, *[1.0] * 6]
        for step in range(7):
            journaled = Journal(folder / "journal/reason").read(step)
            assert journaled is not None
            samples = [s for group in journaled.groups for s in group.samples]
            assert {s.rollout.weight_version for s in samples} == {max(step - 1, 0)}
