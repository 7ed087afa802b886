"""`stepwell leaderboard`: published evaluations of several runs, seen from outside."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from pipeline.artifacts import publish, set_aside
from pipeline.cli.app import main
from pipeline.errors import OK, WRONG

Publish = Callable[..., Path]
RUN: dict[str, Any] = {"accuracy": 0.5, "flops_per_answer": 2e6, "joules_per_answer": 4e-3}


@pytest.fixture
def evaluated(tmp_path: Path) -> Publish:
    """Make a run with an evaluation: models to what their rows have beside the usual."""

    def make(name: str, models: dict[str, Any], *, prompts: str = "f" * 64) -> Path:
        rows = [
            {
                "model": model,
                "prompts": "held_out",
                "ci_low": row["accuracy"] - 0.1,
                "ci_high": row["accuracy"] + 0.1,
                "problems": 1000,
                "energy_source": "analytic",
                **row,
            }
            for model, row in models.items()
        ]
        draft = tmp_path / "draft"
        draft.mkdir()
        publish(
            draft,
            tmp_path / name / "stages" / "report",
            kind="report",
            stage="report",
            fingerprint=name,
            inputs={"prompts:held_out": prompts},
            info={"results": rows},
        )
        return tmp_path / name

    return make


def document(arguments: list[Any], capfd: pytest.CaptureFixture[str]) -> dict[str, Any]:
    assert main(["leaderboard", *map(str, arguments), "--json"]) == OK
    return json.loads(capfd.readouterr().out)


def test_runs_on_the_same_prompts_share_a_board(
    evaluated: Publish, capfd: pytest.CaptureFixture[str]
) -> None:
    one = evaluated("one", {"base": RUN, "reason": {**RUN, "accuracy": 0.8}})
    two = evaluated("two", {"base": {**RUN, "flops_per_answer": 1e6}})
    (board,) = document([one, two], capfd)["boards"]
    rows = [(row["rank"], row["run"], row["model"], row["on_front"]) for row in board["rows"]]
    assert rows == [
        (1, "one", "reason", True),
        (2, "two", "base", True),
        (3, "one", "base", False),
    ]
    assert board["rows"][2]["flops_per_correct"] == 4e6
    assert board["rows"][2]["joules_per_correct"] == 8e-3
    assert board["hypervolume"].keys() == {"one", "two"}


def test_other_prompts_make_another_board(
    evaluated: Publish, capfd: pytest.CaptureFixture[str]
) -> None:
    runs = [evaluated(n, {"base": RUN}, prompts=n * 64) for n in "ab"]
    boards = document(runs, capfd)["boards"]
    assert [board["fingerprint"][0] for board in boards] == ["a", "b"]
    assert [len(board["rows"]) for board in boards] == [1, 1]


def test_runs_of_the_same_name_are_called_by_their_paths(
    evaluated: Publish, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    runs = [evaluated(f"{parent}/x", {"base": RUN}) for parent in "ab"]
    (board,) = document([*runs, runs[0]], capfd)["boards"]
    assert [row["run"] for row in board["rows"]] == [str(run) for run in runs]


def test_what_was_set_aside_has_no_place(
    evaluated: Publish, capfd: pytest.CaptureFixture[str]
) -> None:
    run = evaluated("one", {"base": RUN})
    set_aside(run / "stages" / "report")
    run = evaluated("one", {"base": {**RUN, "accuracy": 0.75}})
    (board,) = document([run], capfd)["boards"]
    assert [row["accuracy"] for row in board["rows"]] == [0.75]


def test_a_model_that_tells_no_flops_has_a_place(
    evaluated: Publish, capfd: pytest.CaptureFixture[str]
) -> None:
    run = evaluated("old", {"base": {"accuracy": 0.5}})
    (board,) = document([run], capfd)["boards"]
    assert board["rows"][0]["flops_per_answer"] is None
    assert board["best_hypervolume"] is None
    assert main(["leaderboard", str(run)]) == OK
    assert "50.0%" in capfd.readouterr().out


def test_a_table_fits_80_columns_and_a_page_needs_no_network(
    evaluated: Publish,
    tmp_path: Path,
    capfd: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    run = evaluated("one", {"<b>": RUN, "reason": {**RUN, "accuracy": 0.875}})
    page = tmp_path / "page.html"
    assert main(["leaderboard", str(run), "--html", str(page)]) == OK
    lines = capfd.readouterr().out.splitlines()
    assert max(map(len, lines)) <= max(80, len(f"page: {page}"))
    (line,) = [line for line in lines if "reason" in line]
    assert line.split()[:2] == ["*", "reason"]
    assert "analytic" in line
    html = page.read_text()
    assert "87.5%" in html
    assert "&lt;b&gt;" in html
    assert "<b>" not in html
    assert "http" not in html.replace("http://www.w3.org", "")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["nowhere"], "nowhere: there is no such folder"),
        (["."], "has no finished evaluate stage"),
        ([], "Missing argument 'RUN...'"),
        ([".", "--html", "no/page.html"], "--html no/page.html: there is no folder no"),
    ],
)
def test_what_cannot_be_ranked_is_told(
    arguments: list[str],
    message: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(["leaderboard", *arguments]) == WRONG
    assert message in capfd.readouterr().err
