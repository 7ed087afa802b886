"""`stepwell plan --probe` runs a miniature for real, says what it measured, and leaves nothing."""

import json
import tempfile
from pathlib import Path

import pytest
import yaml

from pipeline.cli.app import main
from pipeline.errors import OK, WRONG

RECIPE = """
name: small
model: {scratch: {hidden: 64, core: 1, heads: 2, mlp: 128, max_position: 256}}
prompts:
  train: {task: swaps, size: 64, difficulty: [1, 2]}
  held_out: {task: swaps, size: 16, split: test, difficulty: [1, 2]}
rewards: {answer: {use: "builtin:exact_match"}}
hardware: {engine: native}
stages:
  cold: {kind: sft, rows: train.worked, max_tokens: 64, batch_rows: 8, epochs: 20}
  reason:
    {kind: grpo, init: cold, prompts: train, rewards: [answer], steps: 400, prompts_per_step: 4,
     samples_per_prompt: 4, micro_batch_rows: 4, max_tokens: 12, resample_rounds: 0}
  report: {kind: evaluate, models: [base, reason], prompts: held_out, max_tokens: 12}
"""

DEPTH = """
name: small-depth
seed: 3
model: {scratch: {hidden: 64, core: 1, heads: 2, mlp: 128, max_position: 256, max_iterations: 4}}
prompts:
  train: {task: lookups, size: 200, difficulty: [1, 3]}
  calibration: {task: lookups, size: 20, split: train, seed: 8, difficulty: [1, 3]}
  held_out: {task: lookups, size: 20, split: test, difficulty: [1, 3]}
rewards: {answer: {use: "builtin:exact_match"}}
hardware: {device: cpu, engine: native}
stages:
  depth: {kind: depth, prompts: train, calibration: calibration, held_out: held_out,
    rows: train.worked, max_depth: 4, max_tokens: 24, force: true,
    random_depth: {lr: 3.0e-3, batch_rows: 32, micro_batch_rows: 32, max_tokens: 120},
    headroom: {size: 12, samples_per_prompt: 2}, warm_start: {size: 20, steps: 40},
    rl: {steps: 400, prompts_per_step: 4, samples_per_prompt: 4, seeds: 2},
    calibrate: {size: 10, rounds: 1}, pareto: {size: 12, baselines: [entropy, labels, right]}}
  export: {kind: export, model: depth}
"""


@pytest.fixture
def recipe(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The recipe in a reader's folder; temporary folders lie in another one."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "temporary"))
    (tmp_path / "temporary").mkdir()
    (tmp_path / "small.yaml").write_text(RECIPE)
    return tmp_path


def test_rates_are_measured_and_said(recipe: Path, capfd: pytest.CaptureFixture[str]) -> None:
    assert main(["plan", "small.yaml", "--probe", "--json"]) == OK
    printed = capfd.readouterr()
    estimate = json.loads(printed.out)["estimate"]
    rates = {rate["kind"]: rate for rate in estimate["measured"]["rates"]}
    assert rates.keys() == {"sft", "grpo", "evaluate"}
    assert rates["sft"]["trained_tokens_per_s"] > 0
    assert rates["grpo"]["generated_tokens_per_s"] > 0
    assert 0 < rates["evaluate"]["completion_tokens"] <= 12
    assert estimate["measured"]["left_out"] == {}
    assert 0 < estimate["measured"]["run_s"] < estimate["measured"]["seconds"]
    assert "probing: a few steps of cold, reason, report" in printed.err
    assert not list((recipe / "temporary").iterdir())
    assert not (recipe / "runs").exists()


@pytest.mark.slow
def test_the_parts_of_a_depth_stage_are_measured(
    recipe: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    (recipe / "small.yaml").write_text(DEPTH)
    assert main(["plan", "small.yaml", "--probe", "--json"]) == OK
    document = json.loads(capfd.readouterr().out)
    (rate,) = document["estimate"]["measured"]["rates"]
    depth = next(stage for stage in document["stages"] if stage["name"] == "depth")
    course = rate["parts"]["5-rl"]
    assert rate["kind"] == "depth"
    assert {"2-headroom", "3-labels", "5-rl", "7-calibrate", "8-pareto"} <= rate["parts"].keys()
    assert all(part["completion_s"] >= 0 for part in rate["parts"].values())
    completions = 2 * 400 * 4 * 4  # seeds, steps, prompts, samples
    assert 3600 * depth["estimate"]["hours"] > completions * course["completion_s"]
    assert not list((recipe / "temporary").iterdir())


def test_where_nothing_can_be_measured_it_says_so(
    recipe: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    content = yaml.safe_load(RECIPE)
    content["stages"] = {"export": {"kind": "export", "model": "base"}}
    (recipe / "small.yaml").write_text(yaml.safe_dump(content))
    assert main(["plan", "small.yaml", "--probe"]) == WRONG
    assert "--probe measures sft, grpo, evaluate and depth stages" in capfd.readouterr().err
    assert main(["plan", "small.yaml", "--probe", "--matmul-gflops", "9"]) == WRONG
    assert "leave --simulate and --matmul-gflops out" in capfd.readouterr().err
