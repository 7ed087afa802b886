"""The batch file on a real SLURM: requeued in the middle, it ends with a plain run's weights.

Needs a cluster that answers `sinfo`; one host with slurmctld and slurmd will do.
"""

import hashlib
import json
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.launch.test_files import MINE

WAIT_S = 600.0
STEPS = 6


def answer(*words: str) -> str:
    return subprocess.run(words, capture_output=True, text=True, check=True).stdout


def has_slurm() -> bool:
    try:
        return bool(answer("sinfo", "--noheader", "--states=idle").strip())
    except (OSError, subprocess.CalledProcessError):
        return False


def wait_until(holds: Callable[[], bool]) -> None:
    end = time.monotonic() + WAIT_S
    while not holds():
        assert time.monotonic() < end
        time.sleep(0.5)


def weights(run: Path) -> dict[str, str]:
    files = sorted((run / "stages" / "reason" / "model").glob("*.safetensors"))
    return {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in files}


@pytest.mark.slow
@pytest.mark.skipif(not has_slurm(), reason="no SLURM answers here")
def test_a_requeued_job_ends_with_the_same_weights(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    recipe = MINE.replace("file: rows/train.jsonl", "task: swaps, size: 64, difficulty: [2, 3]")
    recipe = recipe.replace(
        "steps: 2", f"steps: {STEPS}, prompts_per_step: 4, micro_batch_rows: 16"
    )
    recipe += "hardware: {device: cpu, threads_per_rank: 1, threads_per_engine: 1}\n"
    Path("mine.yaml").write_text(recipe)
    Path("brief.py").write_text("def brief(sample):\n    return len(sample.completion) / 100\n")
    stepwell = [sys.executable, "-m", "pipeline.cli.app"]
    answer(*stepwell, "run", "mine.yaml", "--run-dir", "plain")
    document = json.loads(answer(*stepwell, "launch", "mine.yaml", "--on", "slurm", "--json"))
    job, run = document["job"]["id"], Path(document["run_dir"])

    def state() -> str:
        row = json.loads(answer(*stepwell, "launch", "--status", "--json"))["jobs"][0]
        return row["state"]

    log = Path(document["folder"]) / f"slurm-{job}.log"
    wait_until(lambda: log.is_file() and f"step {STEPS // 2}/{STEPS}" in log.read_text())
    answer("scontrol", "requeue", job)
    answer("scontrol", "update", f"JobId={job}", "StartTime=now")
    wait_until(lambda: state() in ("COMPLETED", "FAILED", "CANCELLED"))
    assert state() == "COMPLETED"
    assert "Restarts=1" in answer("scontrol", "--oneliner", "show", "job", job)
    assert weights(run) == weights(Path("plain"))
