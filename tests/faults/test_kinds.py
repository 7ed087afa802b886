"""Other kinds of stages and ways of training, each killed within: the end is the same.

A run of each way is undisturbed, another meets its faults one after the other.
"""

from pathlib import Path
from typing import Any

import pytest

from tests.faults.launches import RECIPE, Fault, finished, outcome, project

pytestmark = pytest.mark.faults

STUDENT = """
  student: {kind: distill, mode: on_policy, teacher: cold, rows: train.worked, steps: 4,
    lr: 1.0e-3, batch_rows: 8, max_tokens: 200, save_steps: 2,
    student: {scratch: {hidden: 32, layers: 1, heads: 1, mlp: 64, max_position: 256}}}
"""
DEPTH = """
name: faults
seed: 3
model: {scratch: {hidden: 64, core: 1, heads: 2, mlp: 128, max_position: 256, max_iterations: 4}}
prompts:
  train: {task: lookups, size: 60, difficulty: [1, 3], distractors: [0, 1]}
  calibration: {task: lookups, size: 12, split: train, seed: 8, difficulty: [1, 3]}
  held_out: {task: lookups, size: 12, split: test, difficulty: [1, 3]}
rewards:
  answer: {use: "mine.py:even"}
stages:
  depth: {kind: depth, prompts: train, calibration: calibration, held_out: held_out,
    rows: train.worked, max_depth: 4, max_tokens: 16, force: true, budgets: [0.5, 1.0],
    random_depth: {lr: 3.0e-3, batch_rows: 32, micro_batch_rows: 32, max_tokens: 120},
    headroom: {size: 8, samples_per_prompt: 2}, warm_start: {size: 12, steps: 20},
    rl: {steps: 3, prompts_per_step: 4, samples_per_prompt: 4},
    joint: {rounds: 1, token_steps: 2, head_steps: 1, lr: 1.0e-3},
    calibrate: {size: 8, rounds: 1}, pareto: {size: 8}}
hardware: {device: cpu, engine: native}
"""
STEP = r"-> .*journal/reason/step-000002\.parquet"
MARK = r"-> .*work/reason/checkpoints/checkpoint-2/complete"
WAYS: dict[str, tuple[str, tuple[Fault, ...]]] = {
    "one step ahead": (
        RECIPE.replace("save_steps: 2}\nhardware", "save_steps: 2, ahead: 1}\nhardware"),
        (
            Fault(event="os.rename", path=STEP, target="driver"),
            Fault(event="os.rename", path=MARK, target="driver"),
        ),
    ),
    "two ranks, ZeRO-2": (
        RECIPE.replace("device: cpu,", "device: cpu, ranks: 2, sharding: zero2,"),
        (
            Fault(event="os.rename", path=MARK, target="driver"),
            Fault(event="os.rename", path=STEP, target="trainer-1"),
        ),
    ),
    "distillation on the student's own": (
        RECIPE.replace("hardware:", STUDENT.lstrip("\n") + "hardware:"),
        (
            Fault(
                event="os.rename",
                path=r"-> .*work/student/checkpoints/checkpoint-2/complete",
                target="driver",
            ),
            Fault(event="open", path=r"work/\.student\.out/model/config\.json", target="driver"),
        ),
    ),
    "depth and joint": (
        DEPTH,
        (
            Fault(event="os.rename", path=r"-> .*parts/[^./]*random[^/]*$", target="driver"),
            Fault(event="os.rename", path=r"-> .*state-000002\.sha256", target="driver"),
            Fault(event="os.rename", path=r"-> .*parts/6-joint-0-tokens$", target="driver"),
            Fault(event="os.rename", path=r"-> .*parts/7-calibrate$", target="engine-0"),
        ),
    ),
}


@pytest.mark.parametrize("way", WAYS)
def test_the_end_is_the_same(way: str, tmp_path: Path) -> None:
    recipe, faults = WAYS[way]
    outcomes: list[dict[str, Any]] = []
    for name in ("whole", "broken"):
        folder = project(tmp_path / name, recipe=recipe)
        finished(folder, *(faults if name == "broken" else ()))
        outcomes.append(outcome(folder / "runs" / "faults"))
    assert outcomes[0] == outcomes[1]
