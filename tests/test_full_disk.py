"""A disk, or shared memory, that fills up within a run: a sentence, and the same command goes on.

The run is in mounts of its own, which takes `unshare`.
"""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from pipeline.errors import FAILED, OK

RECIPE = """
name: full
seed: 3
model: {scratch: {hidden: 64, core: 1, heads: 2, mlp: 128, max_position: 256, max_iterations: 4}}
prompts:
  train: {task: sums, size: 64, difficulty: [2, 3]}
stages:
  cold: {kind: sft, rows: train.worked, batch_rows: 16, max_tokens: 200}
hardware: {device: cpu, engine: native}
"""
SCRIPT = """
mount -t tmpfs -o size="$1" tmpfs "$2" || exit 77
"$3" -P -m pipeline run full.yaml --json >first.json 2>first.txt
echo $? >first.code
cp runs/full/state.json first.state
mount -o remount,size=200m "$2"
exec "$3" -P -m pipeline run full.yaml --json >second.json 2>second.txt
"""
NO_MOUNTS = 77


@pytest.mark.slow
@pytest.mark.parametrize(("place", "size"), [("runs", "900k"), ("/dev/shm", "1m")])
def test_what_fills_up_is_named_and_the_run_goes_on(place: str, size: str, tmp_path: Path) -> None:
    (tmp_path / "runs").mkdir()
    (tmp_path / "full.yaml").write_text(RECIPE)
    user = [] if os.geteuid() == 0 else ["--user", "--map-root-user"]
    done = subprocess.run(
        ["unshare", *user, "--mount", "sh", "-c", SCRIPT, "-", size, place, sys.executable],
        cwd=tmp_path,
        env=os.environ | {"OMP_NUM_THREADS": "1"},
        timeout=400,
    )
    if done.returncode == NO_MOUNTS or not (tmp_path / "first.code").exists():
        pytest.skip("no mounts of its own here")
    code = int((tmp_path / "first.code").read_text())
    words = (tmp_path / "first.txt").read_text()
    assert "Traceback" not in words
    if place == "runs":
        assert code == FAILED, words
        assert (
            "No space left on device" in json.loads((tmp_path / "first.json").read_text())["error"]
        )
        (cold,) = json.loads((tmp_path / "first.state").read_text())
        assert cold["status"] == "failed"
    else:  # Ray may do without it
        assert code in (OK, FAILED), words
    assert done.returncode == OK, (tmp_path / "second.txt").read_text()
