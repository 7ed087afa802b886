"""Harvested rows as a data set: what is in it, what is left out, and who can read it."""

import json
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import yaml

from pipeline.artifacts import fingerprint, publish
from pipeline.records import Prompt, Rollout, Scored, write_prompts, write_scored
from pipeline.stages.reject import ROLLOUTS_FILE
from pipeline.stages.support import PROMPTS_FILE
from pipeline.stages.training_rows import HARVEST_FILE
from pipeline.use.rows_export import NoRows, export_rows

RECIPE = """
name: small
model: {scratch: {hidden: 32, layers: 1, heads: 1, mlp: 64}}
prompts:
  train: {file: train.jsonl, system: Be brief.}
  held_out: {task: swaps, size: 10, split: test, difficulty: [1, 2]}
rewards:
  answer: {use: "builtin:exact_match"}
stages:
  cold: {kind: sft, rows: train.worked, max_tokens: 64}
  harvest: {kind: reject, policy: cold, prompts: train, rewards: [answer], max_tokens: 64}
  report: {kind: evaluate, models: [base, cold], prompts: held_out, max_tokens: 64}
"""
SHARED = "a ball is under cup two and then cup two and cup five are swapped where is it"


def prompt(number: int, question: str) -> Prompt:
    return Prompt(id=f"p{number}", question=question, answer=str(number))


def run_folder(path: Path, questions: Sequence[str], held_out: Sequence[str]) -> Path:
    """A run with a finished harvest of one row a question."""
    path.mkdir()
    (path / "recipe.yaml").write_text(RECIPE)
    for name, texts in (("train", questions), ("held_out", held_out)):
        draft = path / "draft"
        draft.mkdir()
        write_prompts([prompt(i, text) for i, text in enumerate(texts)], draft / PROMPTS_FILE)
        publish(
            draft, path / "inputs" / name, kind="prompts", stage=name, fingerprint=fingerprint(name)
        )
    draft = path / "draft"
    draft.mkdir()
    rows = [
        {
            "question": text,
            "context": "[]",
            "completion": f"<think>so</think>{i}",
            "source": "train",
            "prompt_id": f"p{i}",
            "prompt_hash": "0",
            "policy": "cold@12",
            "seed": i,
            "sample": 0,
            "verdicts": '{"answer": "correct"}',
        }
        for i, text in enumerate(questions)
    ]
    pq.write_table(pa.Table.from_pylist(rows), draft / HARVEST_FILE)
    write_scored([scored(i) for i in range(len(questions))], draft / ROLLOUTS_FILE)
    publish(
        draft,
        path / "stages" / "harvest",
        kind="rollouts",
        stage="harvest",
        fingerprint=fingerprint("harvest"),
        inputs={"policy": "ab" * 32},
        info={"funnel": {"generated": 9, "kept": len(questions)}},
    )
    return path


def scored(number: int) -> Scored:
    rollout = Rollout(
        prompt_id=f"p{number}",
        sample=0,
        seed=number,
        prompt_tokens=(1,),
        tokens=(2,),
        logprobs=(-0.5,),
        stop="eos",
        weight_version=0,
    )
    return Scored(rollout=rollout, text="x", reward=0.5 + number, components={}, verdicts={})


def test_rows_of_an_evaluation_set_are_left_out(tmp_path: Path) -> None:
    questions = ["What is 1 + 1?", f"Listen: {SHARED}", "what is  2 + 2"]
    run = run_folder(tmp_path / "run", questions, ["What is 2 + 2?", f"Now {SHARED} now?"])
    written = export_rows(run, "harvest", tmp_path / "out")
    assert (written.rows, written.harvested, written.dropped) == (1, 3, {"held_out": 2})
    dropped = json.loads((tmp_path / "out" / "dropped.json").read_text())
    assert {row["prompt_id"]: row["why"] for row in dropped} == {
        "p1": "13 words in a row in common",
        "p2": "equal question",
    }
    (row,) = pq.read_table(tmp_path / "out" / "data" / "train.parquet").to_pylist()
    assert row["messages"] == [
        {"role": "system", "content": "Be brief."},
        {"role": "user", "content": "What is 1 + 1?"},
        {"role": "assistant", "content": "<think>so</think>0"},
    ]
    assert (row["answer"], row["reward"], row["policy"]) == ("0", 0.5, "cold@12")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["out", "run"]


def test_the_card(tmp_path: Path) -> None:
    run = run_folder(tmp_path / "run", ["What is 1 + 1?", "Which?"], ["Which?"])
    export_rows(run, "harvest", tmp_path / "out")
    card = (tmp_path / "out" / "README.md").read_text()
    head = yaml.safe_load(card.split("---\n")[1])
    assert head["configs"] == [{"config_name": "default", "data_files": "data/train.parquet"}]
    for said in ("mean reward is 0.500", "| held_out | 1 |", "| generated | 9 |", "abababab"):
        assert said in card
    assert "license" not in head  # of a file of prompts nothing is known


def test_plain_datasets_reads_it(tmp_path: Path) -> None:
    """In a process without us, and in the form that TRL, axolotl and LLaMA-Factory want."""
    run = run_folder(tmp_path / "run", ["What is 1 + 1?", "And 3?"], [])
    export_rows(run, "harvest", tmp_path / "out")
    program = (
        "import json, sys\n"
        "sys.modules['pipeline'] = None\n"
        "from datasets import load_dataset\n"
        "rows = load_dataset(sys.argv[1])\n"
        "print(json.dumps([list(rows), rows['train'].num_rows, rows['train'][0]['messages']]))"
    )
    done = subprocess.run(
        [sys.executable, "-I", "-c", program, str(tmp_path / "out")],
        cwd=tmp_path,
        env={"HF_HOME": str(tmp_path / "hf"), "HF_HUB_OFFLINE": "1", "PATH": "/usr/bin:/bin"},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr[-2000:]
    splits, count, messages = json.loads(done.stdout.splitlines()[-1])
    assert (splits, count, messages[-1]["role"]) == (["train"], 2, "assistant")
    info = json.loads((tmp_path / "out" / "dataset_info.json").read_text())["small"]
    assert (tmp_path / "out" / info["file_name"]).is_file()


@pytest.mark.parametrize(
    ("stage", "said"),
    [("cold", "has no reject stage of that name; it has harvest"), ("typo", "it has harvest")],
)
def test_a_stage_without_rows(tmp_path: Path, stage: str, said: str) -> None:
    run = run_folder(tmp_path / "run", ["What?"], [])
    with pytest.raises(NoRows, match=said):
        export_rows(run, stage, tmp_path / "out")


def test_rows_that_are_all_evaluated_on(tmp_path: Path) -> None:
    run = run_folder(tmp_path / "run", ["What?"], ["what"])
    with pytest.raises(NoRows, match="no row that no evaluation set has: 1 harvested, 1 of them"):
        export_rows(run, "harvest", tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_without_the_evaluation_prompts_nothing_is_exported(tmp_path: Path) -> None:
    run = run_folder(tmp_path / "run", ["What?"], ["Which?"])
    (run / "inputs" / "held_out" / "manifest.json").unlink()
    with pytest.raises(NoRows, match="the evaluation prompts held_out cannot be read"):
        export_rows(run, "harvest", tmp_path / "out")
