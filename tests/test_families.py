"""Tiny random models of families that people train, each from plan to export, from outside."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import AutoModelForCausalLM

from pipeline.generate.chat import load_chat
from pipeline.plan.engine_models import CPU_FAULTS
from pipeline.watch.run_reading import metrics_of
from tests.fresh_load import NEW_TOKENS, PROMPTS, said_afresh
from tests.own_code import FILES, write_model
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
    if family in CPU_FAULTS:
        pytest.skip(f"plan refuses it on a CPU: {CPU_FAULTS[family]}")
    write_family(family, tmp_path / "model")
    check_flow(tmp_path)


@pytest.mark.slow
def test_a_model_of_own_code_from_plan_to_export(tmp_path: Path) -> None:
    write_model(tmp_path / "model")
    document = check_flow(tmp_path, trusted=True)
    (note,) = [note for note in document["notes"] if "trust_remote_code" in note]
    assert note.endswith(", ".join(FILES))


def check_flow(place: Path, *, trusted: bool = False) -> dict[str, Any]:
    """The model in a folder through plan, run and export; what comes out answers as what was
    trained. Returns what `plan` says."""
    ends = two_ends(place / "model")
    source = f"{place / 'model'}, trust_remote_code: {str(trusted).lower()}"
    (place / "family.yaml").write_text(RECIPE.format(model=source))

    def stepwell(*arguments: str) -> dict[str, Any]:
        done = subprocess.run(
            [sys.executable, "-P", "-m", "pipeline", *arguments, "--json"],
            cwd=place,
            env=os.environ | {"OMP_NUM_THREADS": "1"},
            capture_output=True,
            text=True,
            timeout=400,
        )
        assert done.returncode == 0, done.stderr[-3000:] + done.stdout[-2000:]
        return json.loads(done.stdout)

    plan = stepwell("plan", "family.yaml")
    document = stepwell("run", "family.yaml")
    assert [row["model"] for row in document["results"]] == ["base", "reason"]
    rows = metrics_of(place / "runs/family", "reason")
    assert rows
    assert all(row["logprob_gap"] < 1e-3 for row in rows)
    exported = place / stepwell("export", "runs/family")["model"]
    afresh = said_afresh(exported, cwd=place, trusted=trusted)
    assert set(ends) <= set(afresh["ends"])
    assert afresh["said"] == said_here(place / "runs/family/stages/reason/model", trusted=trusted)
    return plan


def two_ends(folder: Path) -> list[int]:
    """Have a model end by its padding token, too, as Qwen's and Llama's do; returns both."""
    file = folder / "generation_config.json"
    settings = json.loads(file.read_text())
    ends = [settings["eos_token_id"], settings["pad_token_id"]]
    file.write_text(json.dumps(settings | {"eos_token_id": ends}))
    return ends


def said_here(folder: Path, *, trusted: bool) -> list[list[int]]:
    """The tokens of both prompts and of greedy answers."""
    model = AutoModelForCausalLM.from_pretrained(
        folder, dtype=torch.float32, trust_remote_code=trusted
    )
    chat, said = load_chat(folder), []
    for text in PROMPTS:
        prompt = torch.tensor([chat.prompt_ids(chat.render(text, ()))])
        out = model.generate(
            prompt, do_sample=False, max_new_tokens=NEW_TOKENS, eos_token_id=list(chat.ends)
        )
        said.append(out[0].tolist())
    return said
