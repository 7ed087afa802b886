"""The quickstart's GRPO on GPUs, from the command line: it learns what it learns on a CPU."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.gpu

LAYOUTS = {
    "colocated": ["hardware.layout=colocated", "hardware.gpu_memory_fraction=0.5"],
    "separate": ["hardware.layout=separate", "hardware.gpu_memory_fraction=0.5"],
}
RECIPE = """
name: on-gpus
defaults: quickstart
stages: {harvest: null, refit: null, preference: null, align: null, student: null, export: null,
  report: {models: [base, reason]}}
hardware: {device: DEVICE, engine: vllm}
"""


def run(folder: Path, *overrides: str, device: str) -> None:
    (folder / "recipe.yaml").write_text(RECIPE.replace("DEVICE", device))
    command = [sys.executable, "-m", "pipeline", "run", str(folder / "recipe.yaml"), "--json"]
    done = subprocess.run(
        [*command, "--run-dir", str(folder / "run"), *overrides], capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr[-4000:]
    results = {row["model"]: row["accuracy"] for row in json.loads(done.stdout)["results"]}
    lines = (folder / "run" / "work" / "reason" / "metrics.jsonl").read_text().splitlines()
    gaps = [json.loads(line)["logprob_gap"] for line in lines]
    print(f"on {device}: {results}, log-probability gap {max(gaps):.2e}")
    assert results["base"] < 0.5 < 0.8 < results["reason"]
    assert max(gaps) < 1e-2


def test_trainer_and_engine_on_one_gpu(tmp_path: Path) -> None:
    run(tmp_path, *LAYOUTS["colocated"], device="cuda")


@pytest.mark.gpus(2)
def test_a_gpu_for_each(tmp_path: Path) -> None:
    run(tmp_path, *LAYOUTS["separate"], device="cuda")


def test_the_same_where_the_tests_are_tested(device: str, tmp_path: Path) -> None:
    if device == "cuda":
        pytest.skip("the two above are the run on GPUs")
    run(tmp_path, device="cpu")
