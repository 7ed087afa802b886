"""Tiny random models of families that people train, each from plan to export, from outside."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

from pipeline.plan.engine_models import CPU_FAULTS
from pipeline.watch.report import metrics_of
from tests.tiny_families import FAMILIES, write_family

RECIPE = """
name: family
model: {{path: {model}}}
prompts:
  train: {{task: echo, size: 32, difficulty: [1, 3]}}
  held_out: {{task: echo, size: 8, split: test, difficulty: [1, 3]}}
rewards:
  length: {{use: "builtin:length", args: {{buffer_tokens: 8}}}}
  answer: {{use: "builtin:exact_match"}}
stages:
  cold: {{kind: sft, rows: train.answer, max_tokens: 96, batch_rows: 8, micro_batch_rows: 4}}
  reason: {{kind: grpo, init: cold, prompts: train, rewards: [length], steps: 2,
    prompts_per_step: 4, samples_per_prompt: 4, micro_batch_rows: 8, max_tokens: 16, lr: 1e-4}}
  check: {{kind: evaluate, models: [base, reason], prompts: held_out, reward: answer,
    samples_per_prompt: 1, max_tokens: 16}}
  export: {{kind: export, model: reason}}
"""


@pytest.mark.slow
@pytest.mark.parametrize("family", FAMILIES)
def test_a_family_from_plan_to_export(family: str, tmp_path: Path) -> None:
    write_family(family, tmp_path / "model")
    (tmp_path / "family.yaml").write_text(RECIPE.format(model=tmp_path / "model"))

    def stepwell(*arguments: str) -> dict[str, Any]:
        done = subprocess.run(
            [sys.executable, "-P", "-m", "pipeline", *arguments, "--json"],
            cwd=tmp_path,
            env=os.environ | {"OMP_NUM_THREADS": "1"},
            capture_output=True,
            text=True,
            timeout=400,
        )
        assert done.returncode == 0, done.stderr[-3000:] + done.stdout[-2000:]
        return json.loads(done.stdout)

    if family in CPU_FAULTS:
        pytest.skip(f"plan refuses it on a CPU: {CPU_FAULTS[family]}")
    stepwell("plan", "family.yaml")
    document = stepwell("run", "family.yaml")
    assert [row["model"] for row in document["results"]] == ["base", "reason"]
    rows = metrics_of(tmp_path / "runs/family", "reason")
    assert rows
    assert all(row["logprob_gap"] < 1e-3 for row in rows)
    exported = tmp_path / stepwell("export", "runs/family")["model"]
    trained = tmp_path / "runs/family/stages/reason/model"
    said = []
    for folder in (exported, trained):
        again = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32)
        prompt = AutoTokenizer.from_pretrained(folder).apply_chat_template(
            [{"role": "user", "content": "ab"}], add_generation_prompt=True, return_tensors="pt"
        )
        out = again.generate(**prompt, do_sample=False, max_new_tokens=8)
        said.append(out[0].tolist())
    assert said[0] == said[1]
