from pathlib import Path

import pytest
import yaml

from pipeline.watch.report import write_report
from pipeline.watch.result_tables import result_tables
from tests.watch.runs import evaluated_run


def half(right: int, of: int = 40) -> list[list[float | None]]:
    return [[1.0]] * right + [[0.0]] * (of - right)


@pytest.fixture
def run_dir(tmp_path: Path) -> Path:
    """base 10, cold 20, refit (from base) 22, student (of refit) 38 of 40."""
    stages = {
        "cold": {"kind": "sft", "init": "base"},
        "refit": {"kind": "sft", "init": "base"},
        "student": {"kind": "distill", "teacher": "refit"},
        "own": {"kind": "sft", "init": "somewhere else"},
        "report": {"kind": "evaluate", "reward": "answer"},
    }
    models = {"base": 10, "cold": 20, "refit": 22, "student": 38, "own": 37}
    marks = {name: half(right) for name, right in models.items()}
    return evaluated_run(tmp_path / "run", marks, recipe={"stages": stages})


def test_each_model_stands_beside_the_base_and_what_it_was_made_from(run_dir: Path) -> None:
    recipe = yaml.safe_load((run_dir / "recipe.yaml").read_text())
    (table,) = result_tables(run_dir, recipe)
    rows = {row["model"]: row for row in table["rows"]}
    assert table["tested"]
    assert (rows["base"]["over_base"], rows["base"]["over_before"]) == (None, None)
    assert rows["cold"]["over_base"]["delta"] == pytest.approx(0.25)
    assert rows["cold"]["over_base"]["p_value"] == pytest.approx(2 / 2**10)
    assert rows["cold"]["over_before"] is None  # that is the base
    assert rows["student"]["over_before"]["over"] == "refit"
    assert rows["student"]["over_before"]["delta"] == pytest.approx(0.4)
    assert rows["own"]["over_before"]["over"] == "student"  # the row before it
    assert rows["own"]["over_before"]["p_value"] == 1.0


def test_the_report_shows_them(run_dir: Path) -> None:
    page = write_report(run_dir).read_text()
    assert "over what it was made from" in page
    assert '<b class="good">+40.0</b> <span class="soft">refit</span>' in page
    assert '<b class="">-2.5</b>' in page


def test_results_whose_answers_are_gone_stand_without_tests(run_dir: Path) -> None:
    (run_dir / "stages" / "report" / "cold.parquet").unlink()
    (table,) = result_tables(run_dir, {})
    assert not table["tested"]
    assert [row["accuracy"] for row in table["rows"]][:2] == [0.25, 0.5]
    assert "over base" not in write_report(run_dir).read_text()
