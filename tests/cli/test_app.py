"""The command line: answers, exit codes, what it imports and how fast it is."""

import json
import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from pipeline.artifacts import publish, set_aside
from pipeline.cli.app import main
from pipeline.errors import FAILED, OK, STOPPED, WRONG, Stopped
from pipeline.plan import identity
from pipeline.plan.plan import make_plan
from pipeline.recipe.dump import dump_recipe
from pipeline.recipe.load import load_recipe

RECIPE = """
name: small
model: {scratch: {hidden: 32, layers: 1, heads: 1, mlp: 64}}
prompts:
  train: {task: swaps, size: 10, difficulty: [1, 2]}
rewards:
  answer: {use: "builtin:exact_match"}
stages:
  cold: {kind: sft, rows: train.worked, max_tokens: 64}
  reason:
    {kind: grpo, init: cold, prompts: train, rewards: [answer], steps: 3, max_tokens: 64}
  report: {kind: evaluate, models: [base, reason], prompts: train, max_tokens: 64}
"""
ROOT = Path(__file__).resolve().parents[2]
HEAVY = ("torch", "ray", "vllm", "transformers", "trl", "deepspeed", "datasets")


@pytest.fixture
def recipe(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    monkeypatch.chdir(tmp_path)
    path = tmp_path / "small.yaml"
    path.write_text(RECIPE)
    return str(path)


def document(capfd: pytest.CaptureFixture[str]) -> Any:
    """Standard output as the one JSON document that it has to be."""
    return json.loads(capfd.readouterr().out)


def loaded_by(arguments: Sequence[str]) -> set[str]:
    """Heavy modules that a command imports in a fresh process."""
    program = (
        "import sys\nfrom pipeline.cli.app import main\n"
        f"code = main({list(arguments)!r})\n"
        f"print('|', code, *[m for m in {HEAVY!r} if m in sys.modules])"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, check=True
    )
    code, *modules = done.stdout.rpartition("|")[2].split()
    assert code == "0", done.stderr
    return set(modules)


@pytest.mark.parametrize("arguments", [["plan"], ["run", "--dry-run"], ["schema"], ["--help"]])
def test_planning_loads_no_ml_library(recipe: str, arguments: list[str]) -> None:
    given = arguments if arguments[0] in ("schema", "--help") else [*arguments, recipe]
    assert not loaded_by(given)


def test_plan_fits_one_screen_and_shows_the_arithmetic(
    recipe: str, capfd: pytest.CaptureFixture[str]
) -> None:
    assert main(["plan", recipe]) == OK
    lines = capfd.readouterr().out.splitlines()
    assert len(lines) <= 24
    text = "\n".join(lines)
    assert "32 prompts x 16 samples = 512 completions per optimizer step" in text
    assert "placement on" in text
    assert "estimate, not a measurement" in text


def test_plan_as_a_document(recipe: str, capfd: pytest.CaptureFixture[str]) -> None:
    assert main(["plan", recipe, "stages.reason.updates_per_step=4", "--json"]) == OK
    found = document(capfd)
    assert [stage["name"] for stage in found["stages"]] == ["cold", "reason", "report"]
    assert "4 optimizer steps of 128" in found["stages"][1]["batch"]
    assert found["estimate"]["hours"] > 0


@pytest.mark.parametrize(
    ("overrides", "part"),
    [
        (["stages.reason.stepps=3"], "did you mean steps?"),
        (["stages.reason.num_samples=1"], "did you mean samples_per_prompt?"),
        (["stages.reason.samples_per_prompt=1"], "needs at least 2"),
        (["stages.reason.top_p=0.5"], "samples from the full distribution"),
        (["stages.reason.lr=fast"], "expected a number"),
        (["stages.reason.init=clod"], "did you mean cold?"),
        (["stages.cold.init=reason"], "wait for each other: cold -> reason -> cold"),
        (["prompts.train={file: none.jsonl}"], "there is no file none.jsonl"),
        (["rewards.answer.use=builtin:exact"], "no such built-in"),
        (["model.path=none"], "model.path: there is no folder none"),
    ],
)
def test_wrong_recipes_end_with_2_and_one_screen(
    recipe: str, capfd: pytest.CaptureFixture[str], overrides: list[str], part: str
) -> None:
    assert main(["plan", recipe, *overrides]) == WRONG
    shown = capfd.readouterr()
    assert part in shown.err
    assert "Traceback" not in shown.err
    assert len(shown.err.splitlines()) <= 24
    assert shown.out == ""
    assert main(["run", recipe, *overrides, "--json"]) == WRONG
    assert part in document(capfd)["error"]


def test_a_malformed_row_ends_with_2_and_its_line(
    recipe: str, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "rows.jsonl").write_text('{"question": "1+1", "answer": "2"}\n{oops\n')
    assert main(["plan", recipe, "prompts.train={file: rows.jsonl}"]) == WRONG
    assert "rows.jsonl, line 2" in capfd.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "part"),
    [
        (["nonsense"], "No such command 'nonsense'"),
        (["plan"], "Missing argument 'RECIPE'"),
        (["plan", "--fast"], "No such option: --fast"),
        (["rollouts", "none"], "has no rollouts"),
        (["report", "none"], "is no run folder"),
        (["export", "none"], "has no finished export stage"),
        (["plan", "quickstrat"], "did you mean quickstart?"),
    ],
)
def test_wrong_usage_ends_with_2(
    arguments: list[str], part: str, capfd: pytest.CaptureFixture[str]
) -> None:
    assert main(arguments) == WRONG
    assert part in capfd.readouterr().err


def test_help_and_version(capfd: pytest.CaptureFixture[str]) -> None:
    assert main(["--help"]) == OK
    assert "Exit codes" in capfd.readouterr().out
    assert main(["--version"]) == OK
    assert capfd.readouterr().out.startswith("stepwell ")


def test_every_command_takes_json(capfd: pytest.CaptureFixture[str]) -> None:
    commands = ("run", "plan", "doctor", "report", "rollouts", "schema", "eval", "export")
    for command in [*([name] for name in commands), ["data", "check"]]:
        assert main([*command, "--help"]) == OK
        assert "--json" in capfd.readouterr().out


def test_dry_run_knows_what_is_finished(
    recipe: str, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    from pipeline.recipe.load import load_recipe

    cold = make_plan(load_recipe(recipe)).stages[0]
    (tmp_path / "draft").mkdir()
    publish(
        tmp_path / "draft",
        tmp_path / "runs" / "small" / "stages" / "cold",
        kind="checkpoint",
        stage="cold",
        fingerprint=cold.fingerprint,
    )
    assert main(["run", recipe, "--dry-run", "--json"]) == OK
    assert document(capfd)["would_run"] == ["reason", "report"]
    assert main(["run", recipe, "--dry-run", "--from", "cold", "--to", "reason", "--json"]) == OK
    assert document(capfd)["would_run"] == ["cold", "reason"]
    assert main(["run", recipe, "seed=8", "--dry-run", "--json"]) == OK
    assert document(capfd)["would_run"] == ["cold", "reason", "report"]
    assert main(["run", recipe, "--dry-run", "--to", "reson"]) == WRONG
    assert "did you mean reason?" in capfd.readouterr().err


@pytest.mark.parametrize(("began", "waiting"), [("3\n", []), ("5\n", ["cold", "reason", "report"])])
def test_a_run_goes_on_with_the_cores_that_it_began_with(
    recipe: str,
    began: str,
    waiting: list[str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
) -> None:
    """Threads decide sums: on another machine nothing that is finished is made again."""
    from pipeline.recipe.load import load_recipe

    monkeypatch.setenv("OMP_NUM_THREADS", "3")
    folder = tmp_path / "runs" / "small"
    for stage in make_plan(load_recipe(recipe)).stages:
        (tmp_path / "draft").mkdir()
        publish(
            tmp_path / "draft",
            folder / "stages" / stage.name,
            kind="checkpoint",
            stage=stage.name,
            fingerprint=stage.fingerprint,
        )
    (folder / "cores").write_text(began)
    monkeypatch.setenv("OMP_NUM_THREADS", "5")
    assert main(["run", recipe, "--dry-run", "--json"]) == OK
    assert document(capfd)["would_run"] == waiting


def test_a_run_plans_its_recipe_once(
    recipe: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
) -> None:
    """Each file is read for its fingerprint once; nothing is left to run, so no cluster starts."""
    row = {"question": "1+1", "answer": "2", "worked": "w"}
    (tmp_path / "rows.jsonl").write_text(json.dumps(row) + "\n")
    overrides = ["prompts.train={file: rows.jsonl}"]
    for stage in make_plan(load_recipe(recipe, overrides)).stages:
        (tmp_path / "draft").mkdir()
        publish(
            tmp_path / "draft",
            tmp_path / "run" / "stages" / stage.name,
            kind="report",
            stage=stage.name,
            fingerprint=stage.fingerprint,
            info={"results": []},
        )
    hashed: list[str] = []
    real = identity.file_sha256

    def remember(path: Path) -> str:
        hashed.append(path.name)
        return real(path)

    monkeypatch.setattr(identity, "file_sha256", remember)
    assert main(["run", recipe, *overrides, "--run-dir", str(tmp_path / "run"), "--json"]) == OK
    assert [row["status"] for row in document(capfd)["stages"]] == ["done"] * 3
    assert hashed == ["rows.jsonl"]


def test_a_run_ends_with_its_document(
    recipe: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
) -> None:
    from pipeline.stages.progress import RunResult, StageState

    folder = tmp_path / "small"
    folder.mkdir()
    (folder / "recipe.yaml").write_text(dump_recipe(load_recipe(recipe, [])))

    def finished(*_: Any, **__: Any) -> RunResult:
        os.write(1, b"a library prints on standard output\n")
        state = StageState(name="cold", kind="sft", status="done")
        return RunResult(run_dir=folder, stages=[state])

    monkeypatch.setattr("pipeline.run.run", finished)
    assert main(["run", recipe, "--json"]) == OK
    found = document(capfd)
    assert found["run_dir"] == str(folder)
    assert Path(found["report"]).is_file()
    assert found["stages"][0]["status"] == "done"
    assert found["results"] == []


def test_failed_and_stopped_runs_have_their_exit_codes(
    recipe: str, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    from pipeline.run import StageFailed

    ends = ((StageFailed("engine 0 died"), FAILED), (Stopped("at step 3"), STOPPED))
    for error, code in (*ends, (KeyboardInterrupt(), STOPPED)):

        def end(*_: Any, error: BaseException = error, **__: Any) -> None:
            raise error

        monkeypatch.setattr("pipeline.run.run", end)
        assert main(["run", recipe]) == code
        shown = capfd.readouterr()
        assert "Traceback" not in shown.err
        assert (str(error) or "what is finished is kept") in shown.err
        assert main(["run", recipe, "--json"]) == code
        assert document(capfd)["exit_code"] == code


def test_our_own_mistakes_keep_their_traceback(
    recipe: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*_: Any, **__: Any) -> None:
        raise KeyError("a bug")

    monkeypatch.setattr("pipeline.run.run", broken)
    with pytest.raises(KeyError):
        main(["run", recipe])


@pytest.mark.parametrize(
    ("error", "part"),
    [
        (ImportError("cannot import name 'x' from 'trl'"), "a package that this needs cannot be"),
        (ModuleNotFoundError("No module named 'ray'"), "No module named 'ray'; run set-up again"),
        (PermissionError(13, "Permission denied", "/root/x"), "/root/x: Permission denied"),
        (OSError(5, "Input/output error"), "Input/output error"),
    ],
)
def test_what_the_machine_brings_is_one_sentence(
    recipe: str,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
    error: Exception,
    part: str,
) -> None:
    def broken(*_: Any, **__: Any) -> None:
        raise error

    monkeypatch.setattr("pipeline.run.run", broken)
    assert main(["run", recipe, "--json"]) == FAILED
    shown = capfd.readouterr()
    assert part in json.loads(shown.out)["error"]
    assert len(shown.err.splitlines()) == 1


def test_eval_runs_the_evaluate_stage_on_the_model(
    recipe: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from pipeline.plan.stage_plan import Plan
    from pipeline.recipe.evaluate_stage import EvaluateStage
    from pipeline.stages.progress import RunResult

    plans: list[Plan] = []

    def remember(plan: Plan, **_: Any) -> RunResult:
        plans.append(plan)
        return RunResult(run_dir=tmp_path, stages=[])

    monkeypatch.setattr("pipeline.run.run", remember)
    assert main(["eval", "some/model", recipe]) == OK
    assert plans[0].recipe.model.hub == "some/model"
    (stage,) = plans[0].recipe.stages.values()
    assert isinstance(stage, EvaluateStage)
    assert stage.models == ["base"]


def test_export_passes_over_what_was_set_aside(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    target = tmp_path / "run" / "stages" / "export"
    for _ in range(2):
        set_aside(target)
        (tmp_path / "draft" / "model").mkdir(parents=True)
        publish(tmp_path / "draft", target, kind="export", stage="export", fingerprint="x")
    assert main(["export", str(tmp_path / "run"), "--json"]) == OK
    assert json.loads(capfd.readouterr().out)["model"] == str(target / "model")


def test_export_copies_the_exported_model(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "draft" / "model").mkdir(parents=True)
    (tmp_path / "draft" / "model" / "config.json").write_text("{}")
    target = tmp_path / "run" / "stages" / "export"
    publish(tmp_path / "draft", target, kind="export", stage="export", fingerprint="x")
    assert main(["export", str(tmp_path / "run"), "--json"]) == OK
    assert document(capfd)["model"] == str(target / "model")
    copy = tmp_path / "copy"
    assert main(["export", str(tmp_path / "run"), "--to", str(copy)]) == OK
    assert (copy / "config.json").exists()
    assert main(["export", str(tmp_path / "run"), "--to", str(copy)]) == WRONG


def test_data_check_counts_rows_and_wrong_golds(
    recipe: str, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    assert main(["data", "check", recipe, "--json"]) == OK
    (entry,) = document(capfd)["prompts"]
    assert (entry["rows"], entry["problems"]) == (10, [])
    (tmp_path / "mine.py").write_text("def f(sample):\n    return float(sample.gold == '2')\n")
    (tmp_path / "rows.jsonl").write_text(
        '{"question": "1+1", "answer": "2"}\n{"question": "2+2", "answer": "5"}\n'
    )
    overrides = ["prompts.train={file: rows.jsonl}", "rewards.answer={use: 'mine.py:f'}"]
    changed = ["stages.cold=null", "stages.reason.init=base"]
    assert main(["data", "check", recipe, *overrides, *changed, "--json"]) == WRONG
    (entry,) = document(capfd)["prompts"]
    assert [problem["row"] for problem in entry["problems"]] == [2]


def test_data_check_names_what_is_odd_and_what_is_left_out(
    recipe: str, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    def rows(name: str, **golds: str) -> None:
        lines = [json.dumps({"question": f"{q}?", "answer": a}) for q, a in golds.items()]
        (tmp_path / name).write_text("\n".join(lines))

    rows("train.jsonl", one="1", two="2", ONE="1.0")
    rows("test.jsonl", Two="2")
    command = [recipe, "--json", "stages.cold=null", "stages.reason.init=base"]
    command += ["prompts.train={file: train.jsonl}", "prompts.test={file: test.jsonl}"]
    command += ["rewards.answer={use: 'builtin:math_answer'}", "stages.report.prompts=test"]
    assert main(["data", "check", *command]) == OK  # 1 and 1.0 are one answer
    (finding,) = document(capfd)["findings"]
    assert (finding["kind"], finding["total"]) == ("in_held_out", 1)
    assert main(["plan", *command]) == OK
    assert finding in document(capfd)["findings"]
    command += ["prompts.train.decontaminate=[test]"]
    assert main(["data", "check", *command]) == OK
    checked = document(capfd)
    (drop,) = checked["prompts"][0]["dropped"]
    assert (drop["dropped"], drop["total"], checked["findings"]) == (1, 3, [])
    assert main(["plan", *command]) == OK
    assert document(capfd)["dropped"] == [drop]
    rows("train.jsonl", one="1", two="2", ONE="3")
    (tmp_path / "train.jsonl").open("a").write('\n{"question": "one?", "answer": "4"}')
    assert main(["data", "check", *command]) == WRONG
    checked = document(capfd)
    (finding,) = checked["findings"]
    assert (finding["kind"], finding["level"], checked["ok"]) == ("two_golds", "error", False)


def test_data_check_judges_each_row_by_its_source(
    recipe: str, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    rows = [("0.5", "1/2", "sums"), ("ok", "ok", "words"), ("5", "5", "summs")]
    keys = ("question", "answer", "data_source")
    text = [json.dumps(dict(zip(keys, row, strict=True))) + "\n" for row in rows]
    (tmp_path / "rows.jsonl").write_text("".join(text[:2]))
    command = ["data", "check", recipe, "--json", "stages.cold=null", "stages.reason.init=base"]
    command += ["prompts.train={file: rows.jsonl, source_column: data_source}"]
    command += ["rewards.answer={sums: 'builtin:math_answer', words: 'builtin:exact_match'}"]
    assert main(command) == OK
    assert document(capfd)["prompts"][0]["problems"] == []
    (tmp_path / "rows.jsonl").write_text("".join(text))
    assert main(command) == WRONG
    said = capfd.readouterr()
    assert "rows.jsonl, line 3: data_source is 'summs'" in said.out + said.err
    assert "did you mean sums?" in said.out + said.err


def test_schema_is_json_schema(capfd: pytest.CaptureFixture[str]) -> None:
    assert main(["schema", "--json"]) == OK
    assert "stages" in document(capfd)["properties"]
