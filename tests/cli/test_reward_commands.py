"""`stepwell reward ...`: documents, exit codes, and refusals in one line."""

import json
from pathlib import Path
from typing import Any

import pytest

from pipeline.cli.answer import HOLE
from pipeline.cli.app import main
from pipeline.errors import OK, WRONG
from pipeline.records import Prompt, Rollout, Scored, write_prompts, write_scored

CASES = [
    {"id": "a", "gold": "7", "pred": "7", "expected": True},
    {"id": "b", "gold": "7", "pred": "17", "expected": False},
    {"id": "c", "gold": "8", "pred": "none", "expected": False},
]
MINE = """
def contains(sample, *, mark=""):
    return float(mark + sample.gold in sample.completion)

def equal(sample):
    return float(sample.gold == sample.completion)
"""
CONTAINS = "mine.py:contains"


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "mine.py").write_text(MINE)
    (tmp_path / "broken.py").write_text("import nowhere_to_be_found\n\ndef f(sample): return 1.0\n")
    (tmp_path / "cases.jsonl").write_text("\n".join(map(json.dumps, CASES)))
    (tmp_path / "golds.json").write_text(json.dumps([{"answer": "7"}, {"answer": "12"}]))
    return tmp_path


def asked(capfd: pytest.CaptureFixture[str], *arguments: str, code: int = OK) -> Any:
    """The document of `stepwell reward ...` with `--json`."""
    assert main(["reward", *arguments, "--json"]) == code
    return json.loads(capfd.readouterr().out)


def shown(capfd: pytest.CaptureFixture[str], *arguments: str, code: int = OK) -> str:
    assert main(["reward", *arguments]) == code
    return capfd.readouterr().out


def test_labelled_cases(folder: Path, capfd: pytest.CaptureFixture[str]) -> None:
    out = folder / "out.jsonl"
    found = asked(
        capfd, "test", CONTAINS, "--data", "cases.jsonl", "--out", str(out), "--workers", "2"
    )
    named = {"n", "precision", "recall", "verdicts", "slowest", "deterministic"}
    assert named | {"max_cpu_s", "max_rss_mb"} <= set(found)
    assert (found["n"], found["precision"], found["recall"]) == (3, 0.5, 1.0)
    rows = [json.loads(line) for line in out.read_text().splitlines()]
    assert [(row["id"], row["value"]) for row in rows] == [("a", 1.0), ("b", 1.0), ("c", 0.0)]
    table = shown(capfd, "test", CONTAINS, "--data", "cases.jsonl")
    assert "3 cases, precision 0.500, recall 1.000" in table
    assert "b  paid, but wrong" in table


def test_arguments_are_read_as_in_a_recipe(capfd: pytest.CaptureFixture[str]) -> None:
    found = asked(capfd, "test", CONTAINS, "--data", "cases.jsonl", "--arg", "mark='1'")
    assert [row["id"] for row in found["wrong"]] == ["a", "b"]


def test_a_paid_attack_ends_with_1(capfd: pytest.CaptureFixture[str]) -> None:
    found = asked(capfd, "attack", CONTAINS, "--data", "golds.json", code=HOLE)
    assert found["tried"] > 50
    assert "negated" in {hole["attack"] for hole in found["paid"]}
    assert {hole["gold"] for hole in found["paid"]} == {"7", "12"}
    assert "attacks tried" in shown(capfd, "attack", CONTAINS, code=HOLE)
    assert asked(capfd, "attack", "mine.py:equal", "--data", "cases.jsonl")["paid"] == []


def test_one_reward_explained(folder: Path, capfd: pytest.CaptureFixture[str]) -> None:
    (folder / "sample.json").write_text(json.dumps(CASES[0], indent=1))
    found = asked(capfd, "explain", "builtin:math_answer", "--sample", "sample.json")
    assert (found["value"], found["verdict"]) == (1.0, "correct")
    assert found["detail"]["rule"]
    found = asked(capfd, "explain", CONTAINS, "--sample", "cases.jsonl", "--id", "c")
    assert (found["id"], found["value"]) == ("c", 0.0)
    assert found["function"]["form"] == "sample"


def test_speed(capfd: pytest.CaptureFixture[str]) -> None:
    found = asked(capfd, "bench", CONTAINS, "--data", "cases.jsonl", "--seconds", "0.1")
    assert found["checks_per_s_per_core"] > 0
    assert found["isolation"] == "process"


def test_a_runs_samples_rescored(folder: Path, capfd: pytest.CaptureFixture[str]) -> None:
    for name in ("prompts/train", "journal/reason", "stages/harvest"):
        (folder / "runs/x" / name).mkdir(parents=True)
    write_prompts(
        [Prompt(id="p", question="3+4?", answer="7")],
        folder / "runs/x/prompts/train/prompts.parquet",
    )
    write_scored(
        [scored("7", 0), scored("17", 1)], folder / "runs/x/journal/reason/step-000003.parquet"
    )
    write_scored([scored("70", 0)], folder / "runs/x/stages/harvest/rollouts.parquet")
    found = asked(capfd, "diff", CONTAINS, "mine.py:equal", "--run", "runs/x")
    assert found["n"] == 3
    assert {row["id"] for row in found["changed"]} == {"reason/4/p/1", "harvest/p/0"}
    of_one = ("--run", "runs/x", "--stage", "reason")
    assert "1 of 2 samples" in shown(capfd, "diff", CONTAINS, "mine.py:equal", *of_one)
    marked = ("--arg-b", "mark='1'")
    found = asked(capfd, "diff", CONTAINS, CONTAINS, *of_one, *marked)
    assert [row["id"] for row in found["changed"]] == ["reason/4/p/0"]
    error = refusal(capfd, "diff", CONTAINS, CONTAINS, *of_one, "--arg-a", "mark")
    assert "--arg-a mark: write name=value" in error


def test_diff_gives_rewards_the_prompt_that_the_model_saw(
    folder: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    """As the chat template rendered it, where the run folder has a tokenizer."""
    from tokenizers import Tokenizer, models
    from transformers import PreTrainedTokenizerFast

    for name in ("prompts/train", "journal/reason", "stages/base/model"):
        (folder / "runs/x" / name).mkdir(parents=True)
    vocabulary = {"<user>3+4?<think>": 1, "7": 2, "?": 0}
    words = Tokenizer(models.WordLevel(vocabulary, unk_token="?"))
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=words)
    tokenizer.save_pretrained(folder / "runs/x/stages/base/model")
    prompts = [Prompt(id="p", question="3+4?", answer="7")]
    write_prompts(prompts, folder / "runs/x/prompts/train/prompts.parquet")
    write_scored([scored("7", 0)], folder / "runs/x/journal/reason/step-000003.parquet")
    (folder / "mine.py").write_text(
        "def seen(sample):\n    return float(sample.prompt == '<user>3+4?<think>')\n"
        "def never(sample):\n    return 0.0\n"
    )
    (row,) = asked(capfd, "diff", "mine.py:seen", "mine.py:never", "--run", "runs/x")["changed"]
    assert row["a"]["value"] == 1.0


def scored(text: str, sample: int) -> Scored:
    rollout = Rollout(
        prompt_id="p", sample=sample, seed=1, prompt_tokens=(1,), tokens=(2,), logprobs=(0.0,),
        stop="eos", weight_version=0,
    )  # fmt: skip
    return Scored(rollout=rollout, text=text, reward=1.0, components={}, verdicts={})


def refusal(capfd: pytest.CaptureFixture[str], *arguments: str) -> str:
    """The one line that says what is wrong with a command."""
    assert main(["reward", *arguments]) == WRONG
    error = capfd.readouterr().err
    assert len(error.strip().splitlines()) == 1
    return error


@pytest.mark.parametrize(
    ("arguments", "part"),
    [
        (["test", "builtin:math_anser", "--data", "cases.jsonl"], "did you mean math_answer?"),
        (["test", "mine.py:contain", "--data", "cases.jsonl"], "did you mean contains?"),
        (["test", "broken.py:f", "--data", "cases.jsonl"], "nowhere_to_be_found"),
        (["test", CONTAINS, "--data", "none.jsonl"], "none.jsonl: cannot be read"),
        (["test", CONTAINS, "--data", "mine.py"], "mine.py:2: not JSON"),
        (["test", CONTAINS, "--data", "golds.json"], "case 1: a case needs pred"),
        (["test", CONTAINS], "--data"),
        (["test", CONTAINS, "--data", "cases.jsonl", "--arg", "x=1"], "unknown argument 'x'"),
        (["test", CONTAINS, "--data", "cases.jsonl", "--arg", "x"], "write name=value"),
        (["test", CONTAINS, "--data", "cases.jsonl", "--out", "no/o"], "there is no folder no"),
        (["explain", CONTAINS, "--sample", "cases.jsonl", "--id", "z"], "there is no such case"),
        (["attack", "builtin:code_tests", "--data", "golds.json"], "no case has"),
        (["diff", CONTAINS, CONTAINS, "--run", "runs"], "runs has no rollouts"),
    ],
)
def test_refusals_are_one_line(
    capfd: pytest.CaptureFixture[str], arguments: list[str], part: str
) -> None:
    assert part in refusal(capfd, *arguments)
