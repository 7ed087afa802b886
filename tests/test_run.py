"""The flow for real in miniature: Ray, vLLM and TRL on a two-layer model.

One run from end to end, and the same run killed with SIGKILL and interrupted with Ctrl-C: both
must end with the same weights, bit for bit.
"""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from pipeline.artifacts import open_artifact
from pipeline.generate.groups import has_variance
from pipeline.generate.journal import Journal

RECIPE = """
name: miniature
seed: 3
report_to: [tensorboard]
model: {scratch: {hidden: 64, layers: 2, heads: 2, mlp: 128, max_position: 256}}
prompts:
  train: {task: sums, size: 300, difficulty: [2, 3]}
  held_out: {task: sums, size: 40, split: test, difficulty: [2, 3]}
rewards:
  answer: {use: "builtin:math_answer"}
  brief: {use: "rewards_of_mine.py:brief", weight: 0.3}
  format: {use: "builtin:think_format", weight: 0.2}
stages:
  cold_start: {kind: sft, rows: train.worked, epochs: 4, lr: 3.0e-3, batch_rows: 32,
    micro_batch_rows: 32, max_tokens: 200}
  reason: {kind: grpo, init: cold_start, prompts: train, rewards: [answer, format, brief],
    steps: 6, prompts_per_step: 8, samples_per_prompt: 4, micro_batch_rows: 32, max_tokens: 40,
    lr: 1.0e-3, resample_rounds: 1, save_steps: 2, reference_every: 3,
    watch: {prompts: held_out, every_steps: 4, size: 20}}
  harvest: {kind: reject, policy: reason, prompts: train, rewards: [format], size: 60,
    samples_per_prompt: 4, keep_per_prompt: 2, max_tokens: 40}
  refit: {kind: sft, init: base, rows: [harvest, train.answer], epochs: 1, lr: 3.0e-3,
    batch_rows: 32, micro_batch_rows: 32, max_tokens: 200}
  preference: {kind: reward_model, init: refit, pairs: harvest, lr: 1.0e-3, batch_rows: 8,
    micro_batch_rows: 8, max_tokens: 200}
  align: {kind: grpo, init: refit, prompts: train, steps: 2, prompts_per_step: 4,
    rewards: [answer, format, {model: preference, weight: 0.1, last_fraction: 0.5}],
    samples_per_prompt: 4, micro_batch_rows: 16, max_tokens: 40, lr: 1.0e-4, save_steps: 2}
  student: {kind: distill, teacher: align, rows: harvest, epochs: 1, lr: 3.0e-3, batch_rows: 16,
    student: {scratch: {hidden: 32, layers: 1, heads: 1, mlp: 64, max_position: 256}},
    micro_batch_rows: 16, max_tokens: 200}
  report: {kind: evaluate, models: [base, reason, align, student], prompts: held_out,
    samples_per_prompt: 2, pass_k: [1, 2], max_tokens: 40}
  export: {kind: export, model: student}
"""
REWARD = '''
"""A user's own reward."""


def brief(sample):
    return 1.0 if sample.completion_tokens < 20 else 0.0
'''
LIMIT_S = 400.0


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the recipe and the user's reward, where the runs are made."""
    folder = tmp_path_factory.mktemp("project")
    (folder / "miniature.yaml").write_text(RECIPE)
    (folder / "rewards_of_mine.py").write_text(REWARD)
    return folder


def start(project: Path, run_dir: str, *options: str) -> subprocess.Popen[str]:
    """Start `stepwell run` in a session of its own, as a terminal would."""
    command = [sys.executable, "-P", "-m", "pipeline", "run", "miniature.yaml"]
    environment = os.environ | {"OMP_NUM_THREADS": "1", "OMP_WAIT_POLICY": "PASSIVE"}
    return subprocess.Popen(
        [*command, "--run-dir", run_dir, "--json", *options],
        cwd=project,
        env=environment,
        stdout=subprocess.PIPE,
        stderr=(project / f"{run_dir}.log").open("a"),
        text=True,
        start_new_session=True,
    )


def finish(process: subprocess.Popen[str]) -> tuple[int, str]:
    out, _ = process.communicate(timeout=LIMIT_S)
    return process.returncode, out


def wait_for(path: Path, process: subprocess.Popen[str]) -> None:
    """Until the file is there; the run must not end before."""
    limit = time.monotonic() + LIMIT_S
    while not path.exists():
        assert process.poll() is None, f"the run ended before {path.name}"
        assert time.monotonic() < limit, f"{path.name} never came"
        time.sleep(0.1)


@pytest.fixture(scope="module")
def whole(project: Path) -> Path:
    """The uninterrupted run; its document is checked here, its folder by the tests."""
    code, out = finish(start(project, "whole"))
    assert code == 0, (project / "whole.log").read_text()[-3000:]
    document = json.loads(out)
    assert Path(document["run_dir"]) == project / "whole"
    stages = {row["name"]: row for row in document["stages"]}
    assert [row["status"] for row in stages.values()] == ["done"] * 9
    assert all(Path(row["artifact"]).is_dir() for row in stages.values())
    assert [r["model"] for r in document["results"]] == ["base", "reason", "align", "student"]
    for result in document["results"]:
        assert result["ci_low"] <= result["accuracy"] <= result["ci_high"]
        assert result["prompts"] == "held_out"
        assert result["mean_tokens"] > 0
    return project / "whole"


def weights(run_dir: Path, stage: str) -> bytes:
    return (run_dir / "stages" / stage / "model" / "model.safetensors").read_bytes()


def test_every_artifact_is_whole(whole: Path) -> None:
    for path in (whole / "stages").iterdir():
        open_artifact(path, verify=True)
    assert weights(whole, "cold_start") != weights(whole, "reason")


def test_engine_and_trainer_agree(whole: Path) -> None:
    rows = [json.loads(line) for line in (whole / "work/reason/metrics.jsonl").open()]
    assert [row["step"] for row in rows] == list(range(1, 7))
    assert max(row["logprob_gap"] for row in rows) < 1e-4
    assert rows[0]["held_out_accuracy"] >= 0
    assert {"reward/answer", "reward/format", "reward/brief", "tokens_per_s"} <= rows[0].keys()


def test_rewards_and_preference_are_journaled(whole: Path) -> None:
    step = Journal(whole / "journal" / "reason").read(0)
    assert step is not None
    assert any(has_variance(group) for group in step.groups)
    sample = step.groups[0].samples[0]
    c = sample.components
    assert sample.reward == pytest.approx(c["answer"] + 0.2 * c["format"] + 0.3 * c["brief"])
    first, last = (Journal(whole / "journal" / "align").read(i) for i in (0, 1))
    assert first is not None
    assert last is not None
    assert "preference" not in first.groups[0].samples[0].components
    assert "preference" in last.groups[0].samples[0].components


def tracked(run_dir: Path) -> dict[str, list[int]]:
    """The steps of each curve that TensorBoard has of a run."""
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    events = EventAccumulator(str(run_dir / "trackers" / "tensorboard"))
    events.Reload()
    return {tag: [e.step for e in events.Scalars(tag)] for tag in events.Tags()["scalars"]}


def test_a_tracker_has_every_stage_of_the_run(whole: Path) -> None:
    curves = tracked(whole)
    assert curves["reason/reward"] == list(range(1, 7))
    assert {"cold_start/loss", "align/reward/preference", "student/loss"} <= curves.keys()
    assert curves["results/student/accuracy"] == [0]


def test_the_harvest_has_lineage(whole: Path) -> None:
    artifact = open_artifact(whole / "stages" / "harvest")
    funnel = list(artifact.manifest.info["funnel"].values())
    assert funnel == sorted(funnel, reverse=True)
    assert funnel[0] == 240


def test_the_export_loads(whole: Path) -> None:
    from transformers import AutoModelForCausalLM, AutoTokenizer

    folder = whole / "stages" / "export" / "model"
    model = AutoModelForCausalLM.from_pretrained(folder)
    tokenizer = AutoTokenizer.from_pretrained(folder)
    assert model.config.hidden_size == 32
    assert tokenizer.chat_template
    assert "student" in (folder / "README.md").read_text()


def test_killed_and_interrupted_runs_end_with_the_same_weights(project: Path, whole: Path) -> None:
    process = start(project, "broken", "--to", "reason")
    wait_for(project / "broken" / "journal" / "reason" / "step-000002.parquet", process)
    os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    process = start(project, "broken", "--to", "reason")
    # two further on: the next may have been there when the run was killed
    wait_for(project / "broken" / "journal" / "reason" / "step-000004.parquet", process)
    process.send_signal(signal.SIGINT)
    code, _ = finish(process)
    log = (project / "broken.log").read_text()[-3000:]
    assert code in (0, 4), log  # the signal may come in the last step
    code, _ = finish(start(project, "broken", "--to", "reason"))
    assert code == 0, log
    assert weights(project / "broken", "reason") == weights(whole, "reason")
    rows = [json.loads(line) for line in (project / "broken/work/reason/metrics.jsonl").open()]
    assert [row["step"] for row in rows] == list(range(1, 7))
    assert set(tracked(project / "broken")["reason/reward"]) == set(range(1, 7))


def test_a_finished_run_does_nothing_again(project: Path, whole: Path) -> None:
    began = time.monotonic()
    code, out = finish(start(project, "whole"))
    assert code == 0
    assert {row["status"] for row in json.loads(out)["stages"]} == {"done"}
    assert time.monotonic() - began < 60  # no cluster was started
