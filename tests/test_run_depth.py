"""The depth stage for real in miniature: Ray, the native engine, and every part of it.

The policy is not asked to be good here; the numbers are asked to be there, and to agree.
"""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any, get_args

import pytest

from pipeline.depth.compare.depth_report import DepthReport
from pipeline.recipe.depth_parts import Baseline

pytestmark = pytest.mark.slow

RECIPE = """
name: miniature-depth
seed: 3
model: {scratch: {hidden: 64, core: 1, heads: 2, mlp: 128, max_position: 256, max_iterations: 4}}
prompts:
  train: {task: lookups, size: 200, difficulty: [1, 3], distractors: [0, 1]}
  calibration: {task: lookups, size: 20, split: train, seed: 8, difficulty: [1, 3]}
  held_out: {task: lookups, size: 20, split: test, difficulty: [1, 3]}
rewards:
  answer: {use: "even.py:even"}
stages:
  depth: {kind: depth, prompts: train, calibration: calibration, held_out: held_out,
    rows: train.worked, max_depth: 4, max_tokens: 24, force: true, budgets: [0.4, 0.6, 0.8],
    random_depth: {lr: 3.0e-3, batch_rows: 32, micro_batch_rows: 32, max_tokens: 120},
    headroom: {size: 12, samples_per_prompt: 2}, warm_start: {size: 20, steps: 40},
    rl: {steps: 4, prompts_per_step: 4, samples_per_prompt: 4, seeds: 2},
    joint: {rounds: 2, token_steps: 2, head_steps: 1, lr: 1.0e-3},
    calibrate: {size: 10, rounds: 2}, pareto: {size: 10, transfer: [calibration]}}
  export: {kind: export, model: depth}
hardware: {device: cpu, engine: native}
"""
REWARD = """
def even(prompts, completions, **_):
    return [float(sum(map(ord, text)) % 2 == 0) for text in completions]
"""  # random models never answer, and groups without variance teach nothing
LIMIT_S = 400.0


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("project")
    (folder / "depth.yaml").write_text(RECIPE)
    (folder / "even.py").write_text(REWARD)
    return folder


def start(project: Path, run_dir: str, *command: str) -> subprocess.Popen[str]:
    environment = os.environ | {"OMP_NUM_THREADS": "1", "OMP_WAIT_POLICY": "PASSIVE"}
    return subprocess.Popen(
        [sys.executable, "-P", "-m", "pipeline", *command, "--run-dir", run_dir, "--json"],
        cwd=project,
        env=environment,
        stdout=subprocess.PIPE,
        stderr=(project / f"{run_dir}.log").open("a"),
        text=True,
        start_new_session=True,
    )


def finish(project: Path, run_dir: str, process: subprocess.Popen[str]) -> dict[str, Any]:
    out, _ = process.communicate(timeout=LIMIT_S)
    assert process.returncode == 0, (project / f"{run_dir}.log").read_text()[-3000:]
    return json.loads(out)


@pytest.fixture(scope="module")
def whole(project: Path) -> dict[str, Any]:
    """The document of an uninterrupted run."""
    return finish(project, "whole", start(project, "whole", "run", "depth.yaml"))


def test_the_document_has_every_number(whole: dict[str, Any]) -> None:
    found = whole["depth"]
    assert found["headroom"]["verdict"] in ("go", "no go", "undecided")
    own = {"fixed", "policy", "policy, seed 1", "joint"}
    if found["budgets"]:  # none where the policy runs one depth at every price
        own |= {"slider"}
    measured = set(get_args(Baseline)) | own
    assert set(found["methods"]) == measured
    assert set(found["hypervolume"]) == measured - {
        "oracle", "slider", "policy, seed 1", "fixed_whole",
    }  # fmt: skip
    low, high = found["hull_area_ci"]
    assert low <= found["hull_area"] <= high
    assert found["seeds"] == [0, 1]
    assert {"iterations_saved", "flops_saved", "spearman", "budget_error"} <= found.keys()
    assert set(found["gain_at"]) == {"1.25", "1.5", "2"}
    rivals = set(found["hypervolume_difference"])
    assert all(set(gains) == rivals for gains in found["gain_at"].values())
    assert 0 < found["max_saving"] < 1
    assert DepthReport.read(found).document() == found
    rows = found["methods"]
    for name, some in rows.items():
        assert all(row["flops_per_answer"] > 0 for row in some), name
    fixed = rows["fixed"]
    assert [row["mean_depth"] for row in fixed] == [1, 2, 3, 4]
    assert all(len(rows[name]) == 7 for name in rivals - {"fixed"})


def test_engine_and_replay_agree_on_every_decision(project: Path, whole: dict[str, Any]) -> None:
    lines = (project / "whole" / "work" / "depth" / "metrics.jsonl").read_text().splitlines()
    rows = [json.loads(line) for line in lines]
    assert [row["step"] for row in rows] == list(range(1, 4 + 2 * (2 + 1) + 1))
    assert [row["step"] for row in rows if "completion_tokens" in row and "cost" not in row] == [
        5, 6, 8, 9,
    ]  # fmt: skip
    assert max(row["logprob_gap"] for row in rows) < 1e-4
    assert all(row["grad_norm"] > 0 for row in rows if row["step"] in (5, 6, 8, 9))


def test_a_killed_run_ends_with_the_same_weights(project: Path, whole: dict[str, Any]) -> None:
    for row in ("rl-0/row-000001.json", "joint-tokens-1/checkpoints/checkpoint-1/complete"):
        process = start(project, "broken", "run", "depth.yaml")
        reached = project / "broken" / "work" / "depth" / row
        limit = time.monotonic() + LIMIT_S
        while not reached.exists():
            assert process.poll() is None, (project / "broken.log").read_text()[-3000:]
            assert time.monotonic() < limit
            time.sleep(0.05)
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()
    again = finish(project, "broken", start(project, "broken", "run", "depth.yaml"))
    weights = [
        (project / run / "stages" / "depth" / "model" / "model.safetensors").read_bytes()
        for run in ("whole", "broken")
    ]
    assert weights[0] == weights[1]
    assert (
        again["depth"]["methods"]["policy"][0]["accuracy"]
        == (whole["depth"]["methods"]["policy"][0]["accuracy"])
    )


def test_the_export_is_asked_for_an_effort(project: Path, whole: dict[str, Any]) -> None:
    model = str(project / "whole" / "stages" / "export")
    found = {
        effort: finish(
            project,
            f"eval-{effort}",
            start(project, f"eval-{effort}", "eval", model, "depth.yaml", "--effort", effort),
        )
        for effort in ("low", "high")
    }
    keys = {"accuracy", "mean_depth", "flops_per_answer", "joules_per_answer", "energy_source"}
    assert all(keys <= document.keys() for document in found.values())
    assert found["low"]["mean_depth"] <= found["high"]["mean_depth"]


def test_another_comparison_leaves_standing_what_was_learned(
    project: Path, whole: dict[str, Any]
) -> None:
    shutil.copytree(project / "whole", project / "compared")
    parts = project / "compared" / "work" / "depth" / "parts"
    learned = {part.name: part.stat().st_mtime_ns for part in parts.glob("[1-7]-*")}
    changes = ("stages.depth.pareto.baselines=[labels]", "stages.depth.pareto.size=14")
    command = ("run", "depth.yaml", *changes)
    found = finish(project, "compared", start(project, "compared", *command))["depth"]
    assert {part.name: part.stat().st_mtime_ns for part in parts.glob("[1-7]-*")} == learned
    assert (parts / "8-pareto.old-1").is_dir()
    assert set(found["hypervolume_difference"]) == {"fixed", "joint", "labels"}
    assert found["problems"] == 14
    fresh = finish(project, "fresh", start(project, "fresh", *command))["depth"]
    assert _without_energy(found) == _without_energy(fresh)
    assert found["efforts"] == whole["depth"]["efforts"]


def _without_energy(value: Any) -> Any:
    """A document less the joules, which are of the rollouts that a launch makes itself."""
    if isinstance(value, dict):
        return {k: _without_energy(v) for k, v in value.items() if "joules" not in k}
    return [_without_energy(v) for v in value] if isinstance(value, list) else value
