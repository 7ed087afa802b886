"""A made-up run folder with everything that a finished run leaves behind."""

import json
import math
import random
from pathlib import Path
from typing import Any

import pytest
import yaml

from pipeline.records import Prompt, Rollout, Scored, write_prompts, write_scored
from pipeline.watch.report import write_report

STAGES = {
    "cold_start": ("sft", 42.0),
    "reason": ("grpo", 190.0),
    "harvest": ("reject", 31.0),
    "refit": ("sft", 55.0),
    "align": ("grpo", 120.0),
    "student": ("distill", 38.0),
    "report": ("evaluate", 44.0),
    "export": ("export", 2.0),
}
ACCURACIES = {"base": 0.153, "cold_start": 0.312, "reason": 0.61, "refit": 0.655, "align": 0.702}


@pytest.fixture
def run_folder(tmp_path: Path) -> Path:
    """A finished run."""
    return make_run(tmp_path / "quickstart-7")


@pytest.fixture(scope="session")
def page(tmp_path_factory: pytest.TempPathFactory) -> str:
    """The report of a finished run; drawing its pictures takes a second."""
    return write_report(make_run(tmp_path_factory.mktemp("runs") / "quickstart-7")).read_text()


def make_run(run_dir: Path) -> Path:
    """Fill a folder as a run of eight stages would."""
    for folder in ("metrics", "journal/reason", "stages/harvest", "prompts/train"):
        (run_dir / folder).mkdir(parents=True)
    stages = {name: {"kind": kind} for name, (kind, _) in STAGES.items()}
    hardware = {"device": "cpu", "ranks": 1, "sharding": "none", "engines": 1}
    recipe = {"name": "quickstart", "seed": 7, "hardware": hardware, "stages": stages}
    (run_dir / "recipe.yaml").write_text(yaml.safe_dump(recipe, sort_keys=False))
    state = [
        {"name": name, "kind": kind, "status": "done", "seconds": seconds}
        | {"artifact": str(run_dir / "stages" / name)}
        for name, (kind, seconds) in STAGES.items()
    ]
    state[-1] |= {"status": "waiting", "seconds": 0.0, "artifact": None}
    (run_dir / "state.json").write_text(json.dumps(state))
    (run_dir / "results.json").write_text(json.dumps([_result(m) for m in ACCURACIES]))
    _write_metrics(run_dir / "metrics" / "cold_start.jsonl", [_sft_row(i) for i in range(1, 41)])
    _write_metrics(run_dir / "metrics" / "refit.jsonl", [_sft_row(i) for i in range(1, 13)])
    _write_metrics(run_dir / "metrics" / "reason.jsonl", [_grpo_row(i) for i in range(1, 121)])
    funnel = {"generated": 16000, "correct": 9610, "readable": 9402, "new": 7211, "kept": 3604}
    drop = {"what": "completions", "reason": "wrong", "dropped": 6390, "total": 16000}
    info = {"funnel": funnel, "drops": [{**drop, "key": "stages.harvest.threshold"}]}
    manifest = {"kind": "rollouts", "stage": "harvest", "info": info}
    (run_dir / "stages" / "harvest" / "manifest.json").write_text(json.dumps(manifest))
    pairs = {"pairs": 230, "held_out": 26, "chosen_tokens": 21.25, "rejected_tokens": 20.5}
    (run_dir / "stages" / "preference").mkdir()
    manifest = {"kind": "checkpoint", "stage": "preference", "info": {**pairs, "accuracy": 0.75}}
    (run_dir / "stages" / "preference" / "manifest.json").write_text(json.dumps(manifest))
    finding = {"sentence": "prompts.train: 3 of 8 rows are in held_out <b>"}
    (run_dir / "findings.json").write_text(json.dumps([finding]))
    prompts = [
        Prompt(id=f"p{i}", question=f"a={i};b=a+{i};b?", answer=str(2 * i)) for i in (1, 2, 3)
    ]
    write_prompts(prompts, run_dir / "prompts" / "train" / "prompts.parquet")
    for step, good in ((1, False), (120, True)):
        scored = [_scored(p, sample, good=good) for p in prompts for sample in (0, 1)]
        write_scored(scored, run_dir / "journal" / "reason" / f"step-{step:06d}.parquet")
    return run_dir


def _result(model: str) -> dict[str, Any]:
    accuracy = ACCURACIES[model]
    half = 1.96 * math.sqrt(accuracy * (1 - accuracy) / 1000)
    interval = {"ci_low": accuracy - half, "ci_high": accuracy + half}
    passed = {"1": accuracy, "4": min(accuracy * 1.3, 1.0)}
    return {"model": model, "prompts": "held_out", "accuracy": accuracy, "pass_at": passed} | (
        interval | {"mean_tokens": 30 + 40 * accuracy, "minutes": None if model == "base" else 3.2}
    )


def _write_metrics(path: Path, rows: list[dict[str, float]]) -> None:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows) + '{"step": 9')


def _sft_row(step: int) -> dict[str, float]:
    return {"step": step, "steps": 40, "loss": 0.4 + 2.0 / step, "lr": 5e-5}


def _grpo_row(step: int) -> dict[str, float]:
    noise = random.Random(step).gauss(0, 0.04)
    answer = 0.3 + 0.4 * (1 - math.exp(-step / 50)) + noise
    row = {
        "step": step,
        "steps": 120,
        "reward": answer + 0.09,
        "reward/answer": answer,
        "reward/format": min(1.0, 0.7 + step / 150) + noise / 8,
        "completion_tokens": 35 + step / 10 + 30 * noise,
        "zero_variance_share": 0.1 + step / 500 + noise / 2,
        "logprob_gap": 2e-6 * math.exp(20 * noise),
        "kl": step / 9000,
        "loss": noise / 50,
    }
    return row | ({"held_out_accuracy": answer - noise - 0.02} if step % 10 == 0 else {})


def _scored(prompt: Prompt, sample: int, *, good: bool) -> Scored:
    answer = prompt.answer if good else "7"
    text = f"<think>a={prompt.id[1:]}, b={answer}</think>{answer}" if good else f"b = {answer} <b>"
    value = float(good)
    return Scored(
        rollout=Rollout(
            prompt_id=prompt.id,
            sample=sample,
            seed=sample,
            prompt_tokens=(1,),
            tokens=tuple(range(12)),
            logprobs=(-0.5,) * 12,
            stop="eos" if good else "length",
            weight_version=0,
        ),
        text=text,
        reward=1.1 * value,
        components={"answer": value, "format": value},
        verdicts={"answer": "correct" if good else "wrong", "format": "ok" if good else "no tags"},
    )
