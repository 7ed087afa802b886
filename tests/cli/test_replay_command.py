"""`stepwell replay`: a journaled step scored anew, seen from outside."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import yaml

from pipeline.cli.app import main
from pipeline.errors import OK, WRONG
from pipeline.generate.groups import Group
from pipeline.generate.journal import Journal, StepRollouts
from pipeline.generate.schedule import derived_seed
from pipeline.plan.plan import stage_seed
from pipeline.records import Prompt, Rollout, Scored, write_prompts

RECIPE: dict[str, Any] = {
    "name": "small",
    "seed": 7,
    "model": {"scratch": {"hidden": 32, "layers": 1, "heads": 1, "mlp": 32}},
    "prompts": {"train": {"task": "echo", "size": 8, "split": "train"}},
    "rewards": {
        "answer": {"use": "builtin:exact_match", "weight": 1.0},
        "format": {"use": "builtin:think_format", "weight": 0.25},
    },
    "stages": {
        "cold": {"kind": "sft", "init": "base", "rows": "train.worked"},
        "reason": {
            "kind": "grpo",
            "init": "base",
            "prompts": "train",
            "rewards": ["answer", "format"],
            "steps": 4,
            "prompts_per_step": 1,
            "samples_per_prompt": 2,
            "updates_per_step": 1,
            "max_tokens": 16,
        },
    },
}
GOOD = "<think>so</think>7"


@pytest.fixture
def run_dir(tmp_path: Path) -> Path:
    """A run whose step 2 has a right and a wrong completion, the wrong one stored as right."""
    (tmp_path / "recipe.yaml").write_text(yaml.safe_dump(RECIPE, sort_keys=False))
    seed = stage_seed(7, "reason")
    folder = tmp_path / "inputs" / "train"
    folder.mkdir(parents=True)
    write_prompts([Prompt(id="p", question="3+4?", answer="7")], folder / "prompts.parquet")
    samples = []
    for sample, text in enumerate((GOOD, "8")):
        rollout = Rollout(
            prompt_id="p",
            sample=sample,
            seed=derived_seed(seed, 1, "p", sample),
            prompt_tokens=(1,),
            tokens=(2, 3),
            logprobs=(-0.1, -0.2),
            stop="eos",
            weight_version=2,
        )
        samples.append(
            Scored(
                rollout=rollout,
                text=text,
                reward=1.25,
                components={"answer": 1.0, "format": 1.0},
                verdicts={"answer": "correct", "format": "well_formed"},
            )
        )
    group = Group(prompt_id="p", samples=tuple(samples))
    Journal(tmp_path / "journal" / "reason").write(1, StepRollouts(groups=[group], metrics={}))
    return tmp_path


def replayed(run_dir: Path, capfd: pytest.CaptureFixture[str]) -> dict[str, Any]:
    assert main(["replay", str(run_dir), "--stage", "reason", "--step", "2", "--json"]) == OK
    return json.loads(capfd.readouterr().out)


def test_what_is_scored_otherwise_is_named(
    run_dir: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    document = replayed(run_dir, capfd)
    assert (document["samples"], document["groups"], document["different"]) == (2, 1, 1)
    assert document["seeds_agree"] is True
    same, other = document["rows"]
    assert (same["differs"], same["new"]) == ([], same["stored"])
    assert other["differs"] == ["answer", "format"]
    assert other["new"]["components"] == {"answer": 0.0, "format": 0.0}
    assert (other["stored"]["reward"], other["new"]["reward"]) == (1.25, 0.0)


def test_both_are_printed_side_by_side(run_dir: Path, capfd: pytest.CaptureFixture[str]) -> None:
    assert main(["replay", str(run_dir), "--stage", "reason", "--step", "2"]) == OK
    text = " ".join(capfd.readouterr().out.split())
    assert "2 completions of 1 groups, 1 scored otherwise" in text
    assert "1.250 -> 0.000" in text


def test_a_reward_models_part_and_another_seed_are_told(
    run_dir: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    journal = Journal(run_dir / "journal" / "reason")
    step = journal.read(1)
    assert step is not None
    samples = [
        replace(
            scored,
            reward=1.5,
            components={**scored.components, "taste": 0.5},
            rollout=replace(scored.rollout, seed=1),
        )
        for scored in step.groups[0].samples
    ]
    journal.write(
        1, StepRollouts(groups=[Group(prompt_id="p", samples=tuple(samples))], metrics={})
    )
    stages = RECIPE["stages"]
    rewards = ["answer", "format", {"model": "taste", "weight": 0.5, "last_fraction": 1.0}]
    changed = {**stages, "reason": {**stages["reason"], "rewards": rewards}}
    changed["taste"] = {"kind": "reward_model", "init": "base", "pairs": "train"}
    text = yaml.safe_dump({**RECIPE, "stages": changed}, sort_keys=False)
    (run_dir / "recipe.yaml").write_text(text)
    document = replayed(run_dir, capfd)
    assert document["kept"] == ["taste"]
    assert document["seeds_agree"] is False
    assert document["rows"][0]["new"]["reward"] == pytest.approx(1.5)
    assert document["rows"][1]["new"]["reward"] == pytest.approx(0.25)


@pytest.mark.parametrize(
    ("stage", "step", "message"),
    [
        ("raeson", 2, "did you mean reason?"),
        ("cold", 2, "is of kind sft; steps are journaled by GRPO stages (reason)"),
        ("reason", 3, "has no journaled step 3: it has 1, 2 to 2"),
    ],
)
def test_what_is_not_there_is_told(
    run_dir: Path, stage: str, step: int, message: str, capfd: pytest.CaptureFixture[str]
) -> None:
    assert main(["replay", str(run_dir), "--stage", stage, "--step", str(step)]) == WRONG
    assert message in capfd.readouterr().err


def test_a_damaged_step_and_prompts_that_are_gone_are_told(
    run_dir: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    asked = ["replay", str(run_dir), "--stage", "reason", "--step", "2"]
    write_prompts([Prompt(id="q", question="?")], run_dir / "inputs" / "train" / "prompts.parquet")
    assert main(asked) == WRONG
    assert "1 prompts of step 2, such as p, are no longer" in capfd.readouterr().err
    (run_dir / "inputs" / "train" / "prompts.parquet").unlink()
    assert main(asked) == WRONG
    assert "prompts.parquet is missing" in capfd.readouterr().err
    file = run_dir / "journal" / "reason" / "step-000001.parquet"
    file.write_bytes(file.read_bytes()[:-1])
    assert main(asked) == WRONG
    assert "differs from its checksum" in capfd.readouterr().err
