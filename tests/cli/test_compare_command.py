"""`stepwell compare`: two run folders, seen from outside."""

import json
from pathlib import Path
from typing import Any

import pytest

from pipeline.cli.app import main
from pipeline.errors import OK, WRONG
from tests.watch.runs import evaluated_run


def document(arguments: list[Any], capfd: pytest.CaptureFixture[str]) -> dict[str, Any]:
    assert main(["compare", *map(str, arguments), "--json"]) == OK
    return json.loads(capfd.readouterr().out)


def half(right: int, of: int) -> list[list[float | None]]:
    return [[1.0]] * right + [[0.0]] * (of - right)


def test_models_of_both_are_compared_prompt_by_prompt(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    a = evaluated_run(tmp_path / "a", {"base": half(10, 40), "reason": half(20, 40)})
    b = evaluated_run(tmp_path / "b", {"base": half(10, 40), "reason": half(32, 40)})
    found = document([a, b], capfd)
    base, reason = found["results"]
    assert (base["model"], base["delta"], base["p_value"]) == ("base", 0.0, 1.0)
    assert (reason["model"], reason["prompts"]) == ("reason", "held_out")
    assert reason["delta"] == pytest.approx(0.3)
    assert reason["p_value"] == pytest.approx(2 / 2**12)
    assert 0 < reason["ci_low"] < 0.3 < reason["ci_high"]
    assert (reason["right_in_a_alone"], reason["right_in_b_alone"]) == (0, 12)
    assert found["notes"] == []
    assert [row["key"] for row in found["recipe"]] == ["name"]
    assert {flip["right"] for flip in found["flips"]} == {"b"}
    assert found["flips"][0]["question"] == "20+1?"
    assert found["flips"][0]["answer_b"].startswith("<think>by reason</think>1.0")


def test_prompts_that_differ_are_told_and_the_common_ones_compared(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    asked = [f"{i}?" for i in range(30)]
    a = evaluated_run(tmp_path / "a", {"base": half(5, 20)}, questions=asked[:20])
    b = evaluated_run(tmp_path / "b", {"base": half(9, 20)}, questions=asked[10:])
    found = document([a, b], capfd)
    assert found["results"][0]["problems"] == 10
    assert found["results"][0]["delta"] == pytest.approx(0.9)
    (note,) = found["notes"]
    assert "10 are common and compared, 10 are a's alone and 10 are b's alone" in note


def test_runs_without_a_common_prompt_are_refused(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    a = evaluated_run(tmp_path / "a", {"base": half(1, 2)}, questions=["1?", "2?"])
    b = evaluated_run(tmp_path / "b", {"base": half(1, 2)}, questions=["3?", "4?"])
    assert main(["compare", str(a), str(b)]) == WRONG
    message = capfd.readouterr().err
    assert "no prompt in common" in message
    assert "A: base on 2 of held_out" in message


def test_models_of_other_names_compare_the_last_ones(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    a = evaluated_run(tmp_path / "a", {"cold": half(1, 8), "reason": half(2, 8)})
    b = evaluated_run(tmp_path / "b", {"align": half(6, 8)})
    found = document([a, b], capfd)
    (row,) = found["results"]
    assert row["model"] == "reason / align"
    assert "reason of a and align of b" in found["notes"][0]
    assert any("cold on held_out is left out" in note for note in found["notes"])


def test_other_settings_and_samples_that_nobody_scored_are_told(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    stages = {"report": {"kind": "evaluate", "reward": "answer", "temperature": 1.0}}
    a = evaluated_run(tmp_path / "a", {"base": [[1.0, None], [None, None], [0.0, 1.0]]})
    b = evaluated_run(tmp_path / "b", {"base": [[1.0, 1.0]] * 3}, recipe={"stages": stages})
    found = document([a, b], capfd)
    assert "evaluated with another temperature: 0.6 in a, 1.0 in b" in found["notes"]
    assert found["results"][0]["problems"] == 2
    assert found["results"][0]["accuracy_a"] == pytest.approx(0.75)


def test_runs_that_evaluated_nothing_still_have_recipes_and_curves(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    for name, seed in (("a", 1), ("b", 2)):
        folder = tmp_path / name
        (folder / "metrics").mkdir(parents=True)
        (folder / "recipe.yaml").write_text(f"name: x\nseed: {seed}\nstages: {{reason: {{}}}}\n")
        (folder / "metrics" / "reason.jsonl").write_text('{"step": 1, "reward": 0.5}\n')
    found = document([tmp_path / "a", tmp_path / "b"], capfd)
    assert found["results"] == []
    assert found["recipe"] == [{"key": "seed", "a": 1, "b": 2}]
    assert found["curves"] == {
        "reason": {side: [{"step": 1, "reward": 0.5}] for side in ("a", "b")}
    }


def test_tables_fit_80_columns_and_a_page_needs_no_network(
    tmp_path: Path, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    a = evaluated_run(tmp_path / "a", {"base": half(4, 12)}, recipe={"seed": 8})
    b = evaluated_run(tmp_path / "b", {"base": half(12, 12)})
    (a / "metrics").mkdir()
    (b / "metrics").mkdir()
    for run in (a, b):
        rows = [json.dumps({"step": n, "reward": n / 5}) for n in range(5)]
        (run / "metrics" / "report.jsonl").write_text("\n".join(rows) + "\n")
    page = tmp_path / "page.html"
    assert main(["compare", str(a), str(b), "--html", str(page)]) == OK
    printed = capfd.readouterr().out
    assert max(len(line) for line in printed.splitlines()[:-1]) <= 80
    assert "+66.7" in printed
    assert "right in B alone (base): 4+1?" in printed
    html = page.read_text()
    assert "data-hover" in html
    assert "8 right in B alone" in html
    assert html.count("</script>") == 1  # ours: an answer's is escaped
    assert "&lt;/script&gt;&lt;b&gt;" in html
    assert "http" not in html.replace("http://www.w3.org", "")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["nowhere", "."], "nowhere is no run folder: there is no such folder"),
        ([".", "."], "is no run folder: it has no recipe.yaml"),
        (["."], "Missing argument 'RUN_B'"),
        ([".", ".", "--html", "no/page.html"], "--html no/page.html: there is no folder no"),
    ],
)
def test_what_cannot_be_compared_is_told(
    arguments: list[str],
    message: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(["compare", *arguments]) == WRONG
    assert message in capfd.readouterr().err


def test_answers_that_are_gone_are_named(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    a = evaluated_run(tmp_path / "a", {"base": half(1, 2)})
    b = evaluated_run(tmp_path / "b", {"base": half(1, 2)})
    (b / "stages" / "report" / "base.parquet").unlink()
    assert main(["compare", str(a), str(b)]) == WRONG
    assert "stages/report/base.parquet is missing" in capfd.readouterr().err
