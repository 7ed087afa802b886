"""`stepwell init`: rows of one's own become a recipe that plans; nothing is written over."""

import csv
import json
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from pipeline.cli.app import main
from pipeline.errors import OK, WRONG
from pipeline.plan.estimate import estimate
from pipeline.plan.plan import make_plan
from pipeline.recipe.load import load_recipe

TINY = str(Path("data/models/tiny").resolve())
SUMS = [{"question": f"{n} + 2?", "answer": f"It is {n} + 2.\n#### {n + 2}"} for n in range(20)]


@pytest.fixture(autouse=True)
def _folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("sys.stdin.isatty", lambda: False, raising=False)


def lines(name: str, rows: list[dict[str, Any]]) -> str:
    Path(name).write_text("".join(json.dumps(row) + "\n" for row in rows))
    return name


def made(capfd: pytest.CaptureFixture[str], *options: str) -> dict[str, Any]:
    command = ["init", "--model", TINY, "--machine", "cpu", *options, "--json"]
    assert main(command) == OK
    document = json.loads(capfd.readouterr().out)
    plan = make_plan(load_recipe(document["recipe"]))
    assert [stage.name for stage in plan.stages] == document["stages"]
    return document


def test_rows_with_reasoning_and_a_mark(capfd: pytest.CaptureFixture[str]) -> None:
    document = made(capfd, "--data", lines("sums.jsonl", SUMS))
    assert document["judge"] == "builtin:math_answer"
    assert document["stages"] == ["start", "reason", "report", "export"]
    recipe = load_recipe("sums.yaml")
    assert recipe.prompts["train"].answer_after == "####"
    sizes = {
        name: len(Path(f"sums-{name}.jsonl").read_text().splitlines())
        for name in ("train", "held-out")
    }
    assert sizes == {"train": 18, "held-out": 2}
    text = Path("sums.yaml").read_text()
    assert text.count("#") > 10


def test_one_gpu_is_enough(capfd: pytest.CaptureFixture[str]) -> None:
    rows = lines("sums.jsonl", SUMS)
    made(capfd, "--data", rows, "--machine", "gpu", "--model", "Qwen/Qwen2.5-1.5B-Instruct")
    recipe = load_recipe("sums.yaml")
    plan = make_plan(recipe)
    assert plan.device == "cuda"
    assert estimate(recipe, device=plan.device).gpus == 1


def test_the_cold_start_takes_some_of_many_rows(capfd: pytest.CaptureFixture[str]) -> None:
    document = made(capfd, "--data", lines("sums.jsonl", SUMS * 40), "--machine", "cpu")
    recipe = load_recipe(document["recipe"])
    assert recipe.prompts["form"].size == 640
    assert recipe.stages["start"].inputs()[1].name == "form"
    assert recipe.stages["reason"].inputs()[1].name == "train"
    few = load_recipe(made(capfd, "--data", lines("few.jsonl", SUMS))["recipe"])
    assert "form" not in few.prompts


def test_a_csv_with_columns_of_its_own(capfd: pytest.CaptureFixture[str]) -> None:
    with open("own.csv", "w", newline="") as stream:
        writer = csv.writer(stream)
        writer.writerows([["Frage", "Antwort"], *([f"{n}?", "ABCD"[n % 4]] for n in range(12))])
    document = made(capfd, "--data", "own.csv", "--question", "Frage", "--answer", "Antwort")
    assert document["judge"] == "builtin:choice"
    assert load_recipe("own.yaml").prompts["held_out"].columns == {
        "question": "Frage",
        "answer": "Antwort",
    }


def test_parquet_and_rows_to_evaluate_on(capfd: pytest.CaptureFixture[str]) -> None:
    rows = [{"Problem": f"{n}?", "Answer": n} for n in range(8)]
    pq.write_table(pa.Table.from_pylist(rows), "rows.parquet")
    pq.write_table(pa.Table.from_pylist([{"Problem": "9?", "Answer": 9}]), "test.parquet")
    document = made(capfd, "--data", "rows.parquet", "--held-out", "test.parquet", "--name", "mine")
    assert document["written"] == ["mine.yaml"]
    assert (document["question"], document["answer"]) == ("Problem", "Answer")


def test_conversations_are_learned(capfd: pytest.CaptureFixture[str]) -> None:
    turns = [{"role": "user", "content": "Hi"}, {"role": "assistant", "content": "Hello."}]
    document = made(capfd, "--data", lines("chat.jsonl", [{"messages": turns}] * 5))
    assert document["stages"] == ["lessons", "export"]
    assert load_recipe("chat.yaml").stages["lessons"].model_dump()["rows"] == "train.messages"


def test_prose_is_learned_not_judged(capfd: pytest.CaptureFixture[str]) -> None:
    rows = [
        {"prompt": f"Why {n}?", "response": "Because of " + "many things " * 9} for n in "abcde"
    ]
    document = made(capfd, "--data", lines("prose.jsonl", rows))
    assert (document["judge"], document["stages"]) == (None, ["lessons", "export"])


def test_nothing_is_written_over_unasked(capfd: pytest.CaptureFixture[str]) -> None:
    options = ("--data", lines("sums.jsonl", SUMS))
    made(capfd, *options)
    Path("sums.yaml").write_text("mine")
    assert main(["init", "--model", TINY, "--machine", "cpu", *options]) == WRONG
    assert "sums.yaml, sums-train.jsonl" in capfd.readouterr().err
    assert Path("sums.yaml").read_text() == "mine"
    made(capfd, *options, "--force")


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ([], "give --data, --model, --machine"),
        (["--data", "sums.jsonl", "--machine", "cpu"], "give --model"),
        (["--data", "absent.jsonl", "--model", TINY, "--machine", "cpu"], "there is no such file"),
        (["--data", "sums.jsonl", "--model", TINY, "--machine", "tpu"], "write cpu or gpu"),
        (
            ["--data", "sums.jsonl", "--model", TINY, "--machine", "cpu", "--answer", "anwser"],
            "there are question, answer",
        ),
        (["--data", "odd.jsonl", "--model", TINY, "--machine", "cpu"], "--question COLUMN"),
    ],
)
def test_what_is_missing_is_named(
    options: list[str], said: str, capfd: pytest.CaptureFixture[str]
) -> None:
    lines("sums.jsonl", SUMS)
    lines("odd.jsonl", [{"a": "x", "b": "y"}] * 5)
    assert main(["init", *options]) == WRONG
    assert said in capfd.readouterr().err
    assert not list(Path.cwd().glob("*.yaml"))
