import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from pipeline.plan.plan import make_plan
from pipeline.recipe.load import load_recipe
from pipeline.records import read_prompts
from pipeline.stages.drop_log import run_drops
from pipeline.stages.run_folder import FINDINGS_FILE, RunFolder
from pipeline.stages.run_inputs import run_inputs
from pipeline.stages.support import PROMPTS_FILE

RECIPE = """
name: r
model: {path: data/models/tiny}
prompts:
  train: {file: train.jsonl, decontaminate: [held_out]}
  held_out: {file: held_out.jsonl}
rewards:
  answer: {use: "builtin:math_answer"}
stages:
  reason: {kind: grpo, prompts: train, rewards: [answer], steps: 1, max_tokens: 16}
  report: {kind: evaluate, models: [base], prompts: held_out, max_tokens: 16}
"""


def rows(path: Path, *questions: str) -> None:
    lines = (json.dumps({"question": q, "answer": str(i)}) for i, q in enumerate(questions))
    path.write_text("\n".join(lines))


def loaded(tmp_path: Path) -> tuple[dict[str, Any], list[str]]:
    """The artifacts of the recipe's inputs, and what was logged."""
    (tmp_path / "r.yaml").write_text(RECIPE)
    plan = make_plan(load_recipe(str(tmp_path / "r.yaml")))
    log: list[str] = []

    def materialize(_: Any, source: Any, folder: Path, *, seed: int) -> None:
        folder.mkdir()

    console: Any = SimpleNamespace(log=log.append)
    cluster: Any = SimpleNamespace(call=materialize)
    folder = RunFolder(tmp_path / "run")
    return dict(run_inputs(plan, plan.stages, folder, cluster=cluster, console=console)), log


def test_rows_that_are_left_out_are_logged_kept_and_not_trained_on(tmp_path: Path) -> None:
    rows(tmp_path / "train.jsonl", "a?", "b?", "b?")
    rows(tmp_path / "held_out.jsonl", "A")
    artifacts, log = loaded(tmp_path)
    prompts = read_prompts(artifacts["train"].path / PROMPTS_FILE)
    assert [prompt.question for prompt in prompts] == ["b?", "b?"]
    (drop,) = run_drops(tmp_path / "run")
    assert (drop["place"], drop["dropped"], drop["total"]) == ("prompts.train", 1, 3)
    assert drop["key"] == "prompts.train.decontaminate"
    assert any("1 of 3 rows left out: the same question is in held_out" in line for line in log)
    assert any("line 3 and line 2, 'b?' is '2' and '1'" in line for line in log)
    (finding,) = json.loads((tmp_path / "run" / FINDINGS_FILE).read_text())
    assert finding["kind"] == "two_golds"
    again, log = loaded(tmp_path)
    assert (again["train"].manifest, log) == (artifacts["train"].manifest, [])


def test_another_held_out_set_makes_other_prompts(tmp_path: Path) -> None:
    rows(tmp_path / "train.jsonl", "a?", "b?")
    rows(tmp_path / "held_out.jsonl", "a?")
    before, _ = loaded(tmp_path)
    rows(tmp_path / "held_out.jsonl", "b?")
    after, _ = loaded(tmp_path)
    assert before["train"].manifest.fingerprint != after["train"].manifest.fingerprint
    assert [p.question for p in read_prompts(after["train"].path / PROMPTS_FILE)] == ["a?"]
    assert [drop["dropped"] for drop in run_drops(tmp_path / "run")] == [1]  # not the old one's
