"""Evaluations that explore, for real in miniature: Ray, the native engine, and `stepwell eval`."""

import json
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file

from pipeline.models.materialize import materialize
from pipeline.recipe.model_source import ModelSource, ScratchModel
from pipeline.records import Rollout, read_scored
from pipeline.recurrent.explore import RIGHT_HEAD, Exploration, exploration_flops
from pipeline.recurrent.policy import HaltingPolicy
from pipeline.recurrent.request import DepthRequest
from pipeline.recurrent.shape import rollout_flops, shape_of

pytestmark = pytest.mark.slow

RECIPE = """
name: explored
seed: 3
model: {path: judged}
prompts:
  held_out: {task: lookups, size: 12, split: test, difficulty: [1, 3]}
rewards:
  answer: {use: "builtin:exact_match"}
stages:
  report: {kind: evaluate, models: [base], prompts: held_out, samples_per_prompt: 2,
    max_tokens: 12, depth: 4}
hardware: {device: cpu, engine: native}
"""
WIDTH = 12


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("project")
    shape = ScratchModel(
        hidden=64, core=1, heads=2, mlp=128, max_position=256, iterations=4, max_iterations=4
    )
    model = materialize(ModelSource(scratch=shape), folder / "judged", seed=3)
    torch.manual_seed(1)
    (model / RIGHT_HEAD).parent.mkdir()
    head = HaltingPolicy(64, width=WIDTH, max_iterations=4)
    save_file(head.state_dict(), model / RIGHT_HEAD)
    (folder / "explored.yaml").write_text(RECIPE)
    return folder


def stepwell(project: Path, *command: str) -> dict[str, Any]:
    """The document of a command, seen from outside."""
    done = subprocess.run(
        [sys.executable, "-P", "-m", "pipeline", *command, "--json"],
        cwd=project,
        env=os.environ | {"OMP_NUM_THREADS": "1", "OMP_WAIT_POLICY": "PASSIVE"},
        capture_output=True,
        text=True,
        timeout=400,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    return json.loads(done.stdout)


def evaluated(project: Path, name: str, *overrides: str) -> tuple[dict[str, Any], list[Rollout]]:
    """The document of an evaluation of the model's folder, and its rollouts."""
    document = stepwell(project, "eval", "judged", "explored.yaml", *overrides, "--run-dir", name)
    scored = read_scored(project / name / "stages" / "report" / "base.parquet")
    return document, [s.rollout for s in scored]


def test_an_evaluation_explores_by_the_judge_of_the_models_folder(project: Path) -> None:
    shape = shape_of(json.loads((project / "judged" / "config.json").read_text()))
    document, plain = evaluated(project, "plain")
    assert "explore" not in document
    for noise in (0.0, 0.5):
        given = {"paths": 3, "noise": noise, "keep": 1.0}
        keys = [f"stages.report.explore.{key}={value}" for key, value in given.items()]
        document, rollouts = evaluated(project, f"noise-{noise}", *keys)
        assert document["explore"] == given
        alike = [replace(a, flops=b.flops) == b for a, b in zip(plain, rollouts, strict=True)]
        assert all(alike) == (noise == 0.0)
        for run in rollouts:
            assert run.depths is not None
            length = len(run.prompt_tokens)
            one = rollout_flops(
                shape, prompt_tokens=length, depths=run.depths, request=DepthRequest(depth=4)
            )
            more = exploration_flops(
                shape,
                Exploration(**given),
                prompt_tokens=length,
                depths=run.depths,
                head_width=WIDTH,
            )
            assert run.flops == pytest.approx(one + more)
            assert more > 0


def test_another_engine_is_refused_before_anything_runs(project: Path) -> None:
    done = subprocess.run(
        [
            *(sys.executable, "-P", "-m", "pipeline", "plan", "explored.yaml"),
            *("hardware.engine=vllm", "stages.report.explore.paths=3"),
            "stages.report.explore.noise=0.1",
        ],
        cwd=project,
        capture_output=True,
        text=True,
        timeout=100,
    )
    assert done.returncode == 2
    assert "stages.report.explore: vLLM runs one path a token; set hardware.engine: native" in (
        done.stderr
    )
