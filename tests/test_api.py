"""Stepwell from Python: the same plans, sentences and rewards as the command line's, and a run that
is interrupted and gone on with in one process, as a notebook has it."""

import json
import os
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import yaml

from pipeline import api
from pipeline.cli.app import main
from pipeline.errors import WRONG, UsageError
from pipeline.recipe.recipe_errors import RecipeError
from pipeline.start import planned
from tests.watch.conftest import make_run

RECIPE: Mapping[str, Any] = {
    "name": "small",
    "model": {"scratch": {"hidden": 64, "core": 1, "heads": 2, "mlp": 128, "max_position": 256}},
    "prompts": {"train": {"task": "swaps", "size": 64, "difficulty": (1, 2)}},
    "rewards": {"answer": {"use": "builtin:exact_match"}},
    "stages": {
        "cold": {"kind": "sft", "rows": "train.worked", "max_tokens": 64, "batch_rows": 4}
        | {"epochs": 8, "save_steps": 1000},
        "check": {"kind": "evaluate", "models": ["cold"], "prompts": "train", "max_tokens": 8},
    },
}
TWO_CALLS = """
import json, os, signal, sys, threading, time
from pathlib import Path
from pipeline import api

def interrupt():
    while not Path("runs/small/work/cold/metrics.jsonl").exists():
        time.sleep(0.05)
    os.kill(os.getpid(), signal.SIGINT)

recipe = json.loads(Path("recipe.json").read_text())
signal.signal(signal.SIGINT, signal.default_int_handler)  # a job of a shell ignores it
threading.Thread(target=interrupt, daemon=True).start()
try:
    api.run(recipe, "hardware.engine=native")
except api.Stopped as error:
    first = str(error)
statuses = [stage.status for stage in api.open_run("runs/small").stages]
run = api.run(recipe, "hardware.engine=native")
assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
answers = api.rollouts(run)
Path("said.json").write_text(json.dumps({
    "first": first,
    "statuses": statuses,
    "done": run.is_done,
    "accuracy": run.results[0].accuracy,
    "models": [path.name for path in run.models.values()],
    "report": run.report.is_file(),
    "answers": len(answers),
    "steps": int(api.metrics(run, "cold")["step"].max()),
    "shown": run._repr_html_(),
}))
"""
LIMIT_S = 300.0


def said_by_command(capfd: pytest.CaptureFixture[str], *arguments: str) -> str:
    assert main(list(arguments)) == WRONG
    return capfd.readouterr().err.rstrip("\n")


def test_a_plan_is_what_the_command_shows(capfd: pytest.CaptureFixture[str]) -> None:
    plan = api.plan("quickstart", "stages.reason.steps=8")
    assert capfd.readouterr().out == ""
    main(["plan", "quickstart", "stages.reason.steps=8"])
    assert capfd.readouterr().out == f"{plan}\n"
    main(["plan", "quickstart", "stages.reason.steps=8", "--json"])
    assert json.loads(capfd.readouterr().out) == json.loads(json.dumps(plan.document))
    assert plan.stages[:2] == ("cold_start", "reason")
    assert "<td>cold_start</td><td>sft</td>" in plan._repr_html_()


@pytest.mark.parametrize(
    "arguments",
    [
        ("quickstrat",),
        ("quickstart", "stages.reason.stepss=2"),
        ("quickstart", "stages.reason.rewards=[answr]"),
        ("quickstart", "stages.report.models=[base, reasn]"),
    ],
)
def test_what_is_wrong_is_said_as_by_the_command(
    arguments: tuple[str, ...], capfd: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(api.WrongInput) as raised:
        api.plan(*arguments)
    assert str(raised.value) == said_by_command(capfd, "plan", *arguments)
    with pytest.raises(api.WrongInput) as raised:
        api.run(*arguments)
    assert str(raised.value) == said_by_command(capfd, "run", *arguments)


def test_a_mapping_is_a_recipe_as_a_file_is(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("small.yaml").write_text(yaml.safe_dump(json.loads(json.dumps(RECIPE))))
    by_mapping = planned(RECIPE, ["seed=5"], tell=print)
    assert by_mapping == planned(Path("small.yaml"), ["seed=5"], tell=print)
    assert RECIPE["prompts"]["train"]["difficulty"] == (1, 2)
    changed = api.plan({"defaults": "quickstart", "name": "other"}, "stages.export=null")
    assert changed.name == "other"
    assert "export" not in changed.stages


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (
            {"model": {"path": Path("nowhere")}},
            "^the mapping: model.path: there is no folder nowhere",
        ),
        ({"seeds": 3}, "^the mapping: seeds: unknown key; did you mean seed?"),
        ({"seed": {1, 2}}, "^the mapping: "),
        ({"defaults": "nothing"}, "^the mapping: defaults: no file nothing"),
        ({"stages": {}}, "^the mapping: "),
    ],
)
def test_a_wrong_mapping_is_told_like_a_file(change: dict[str, Any], said: str) -> None:
    with pytest.raises(api.WrongInput, match=said):
        api.plan({**RECIPE, **change})


def test_a_reward_of_one_completion(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("own.py").write_text(
        "def enough(sample, *, least=1):\n    return float(len(sample.columns['words']) >= least)\n"
    )
    right = api.reward("builtin:math_answer", "<think>1+1</think>2", gold=2)
    assert (right.value, right.verdict) == (1.0, "correct")
    assert api.reward("builtin:math_answer", "3", gold=["2", "3"]).value == 1.0
    spec = {"use": "own.py:enough", "args": {"least": 2}, "weight": 0.3}
    assert api.reward(spec, "", columns={"words": ["a"]}).value == 0.0
    assert api.reward(spec, "", columns={"words": ["a"]}, args={"least": 1}).value == 1.0
    fault = api.reward("own.py:enough", "")
    assert (fault.value, fault.verdict) == (None, "infra_error")
    assert "words" in fault.detail["error"]


def test_a_reward_that_is_not_there_is_told(capfd: pytest.CaptureFixture[str]) -> None:
    sample = str(Path(__file__).parent / "rewards" / "maths_cases.json")
    with pytest.raises(api.RewardNotFound) as raised:
        api.reward("builtin:maths_answer", "2", gold="2")
    command = ("reward", "explain", "builtin:maths_answer", "--sample", sample)
    assert str(raised.value) == said_by_command(capfd, *command)
    with pytest.raises(UsageError, match="args stand beside each use"):
        api.reward({"by_source": {"a": "builtin:math_answer"}, "args": {"b": 1}}, "2")
    with pytest.raises(UsageError, match="a judge for each of a, b: give one of them"):
        api.reward({"a": "builtin:math_answer", "b": "builtin:choice"}, "2")


def test_a_set_that_is_not_there_is_told(capfd: pytest.CaptureFixture[str]) -> None:
    cases: list[tuple[dict[str, Any], list[str]]] = [
        ({"on": "gsm9k"}, ["--on", "gsm9k"]),
        ({"on": "gsm8k", "data": "rows.json"}, ["--on", "gsm8k", "--data", "rows.json"]),
        ({"on": "task:swaps", "sweep": "effort"}, ["--on", "task:swaps", "--sweep", "effort"]),
        (
            {"on": "task:swaps", "effort": "low", "depth": 2},
            ["--on", "task:swaps", "--effort", "low", "--depth", "2"],
        ),
    ]
    for options, words in cases:
        with pytest.raises(api.WrongInput) as raised:
            api.evaluate("data/models/tiny", **options)
        assert str(raised.value) == said_by_command(capfd, "eval", "data/models/tiny", *words)


def test_a_run_is_read_from_its_folder(tmp_path: Path) -> None:
    run = api.open_run(make_run(tmp_path / "a-run"))
    assert run.name == "quickstart"
    assert not run.is_done
    assert [result.model for result in run.results][:2] == ["base", "cold_start"]
    assert run.results[0].ci_low < run.results[0].accuracy < run.results[0].ci_high
    assert len(api.rollouts(run, "reason")) == len(api.rollouts(run.folder, "reason")) == 12
    assert set(api.metrics(run)["stage"]) == {"cold_start", "reason", "refit"}
    with pytest.raises(api.WrongInput, match="is no run folder: there is no such folder"):
        api.open_run(tmp_path / "nowhere")


def test_an_error_is_one_sentence_in_a_notebook() -> None:
    error = RecipeError("a.yaml: seed: expected a whole number")
    assert error._render_traceback_() == ["RecipeError: a.yaml: seed: expected a whole number"]


def test_the_import_loads_no_library_of_machine_learning() -> None:
    heavy = "{'torch', 'transformers', 'ray', 'vllm', 'trl', 'deepspeed', 'pandas', 'matplotlib'}"
    code = f"import sys, pipeline.api; print(*({heavy} & set(sys.modules)))"
    loaded = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert (loaded.stdout, loaded.returncode) == ("\n", 0), loaded.stderr


def test_a_call_that_is_interrupted_raises_and_the_next_one_goes_on(tmp_path: Path) -> None:
    (tmp_path / "recipe.json").write_text(json.dumps(RECIPE))
    environment = os.environ | {"OMP_NUM_THREADS": "1", "OMP_WAIT_POLICY": "PASSIVE"}
    process = subprocess.run(
        [sys.executable, "-c", TWO_CALLS],
        cwd=tmp_path,
        env=environment,
        capture_output=True,
        text=True,
        timeout=LIMIT_S,
    )
    assert process.returncode == 0, process.stderr[-3000:]
    assert process.stdout == ""
    said = json.loads((tmp_path / "said.json").read_text())
    assert "stopped" in said["first"]
    assert said["statuses"] == ["stopped", "waiting"]
    assert said["done"]
    assert said["report"]
    assert 0 <= said["accuracy"] <= 1
    assert said["models"] == ["model", "model"]
    assert said["answers"] == 256
    assert said["steps"] == 128
    assert "<td>cold</td><td>sft</td><td>done</td>" in said["shown"]
