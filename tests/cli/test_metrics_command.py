"""`stepwell metrics`: tables, CSV and JSON of what stages wrote."""

import csv
import io
import json
from pathlib import Path

import pytest

from pipeline.cli.app import main
from pipeline.errors import OK, WRONG


@pytest.fixture
def run_dir(tmp_path: Path) -> Path:
    """An SFT stage of three rows, one without a number, and a GRPO stage of one."""
    (tmp_path / "metrics").mkdir()
    rows = '{"step": 1, "steps": 3, "loss": 2.0}\n{"step": 2, "steps": 3, "loss": NaN}\n'
    cut = '{"step": 3, "steps": 3, "loss": 1.0, "lr": 0.5}\n{"step": 4, "lo'
    (tmp_path / "metrics" / "cold.jsonl").write_text(rows + cut)
    (tmp_path / "metrics" / "reason.jsonl").write_text('{"step": 1, "reward/answer": 0.5}\n')
    (tmp_path / "recipe.yaml").write_text("name: x\nstages: {cold: {}, reason: {}, export: {}}\n")
    return tmp_path


def test_every_row_as_csv(run_dir: Path, capfd: pytest.CaptureFixture[str]) -> None:
    assert main(["metrics", str(run_dir), "--csv"]) == OK
    rows = list(csv.DictReader(io.StringIO(capfd.readouterr().out)))
    assert list(rows[0]) == ["stage", "step", "steps", "loss", "lr", "reward/answer"]
    assert [(row["stage"], row["step"], row["loss"]) for row in rows] == [
        ("cold", "1", "2.0"),
        ("cold", "2", "nan"),
        ("cold", "3", "1.0"),
        ("reason", "1", ""),
    ]


def test_every_row_as_json(run_dir: Path, capfd: pytest.CaptureFixture[str]) -> None:
    assert main(["metrics", str(run_dir), "--stage", "cold", "--json"]) == OK
    text = capfd.readouterr().out
    assert "NaN" not in text
    stages = json.loads(text)["stages"]
    assert list(stages) == ["cold"]
    assert [row["loss"] for row in stages["cold"]] == [2.0, None, 1.0]


def test_a_table_has_first_last_and_course(
    run_dir: Path, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "60")
    assert main(["metrics", str(run_dir)]) == OK
    lines = capfd.readouterr().out.splitlines()
    assert "cold, step 3 of 3" in lines
    assert max(map(len, lines)) <= 60
    (loss,) = [line.split() for line in lines if line.startswith("loss")]
    assert loss[1:4] == ["2", "1", "nan"]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--stage", "raeson"], "did you mean reason?"),
        (["--stage", "export"], "has no metrics"),
        (["--csv", "--json"], "give one of them"),
    ],
)
def test_what_cannot_be_shown_is_told(
    run_dir: Path, arguments: list[str], message: str, capfd: pytest.CaptureFixture[str]
) -> None:
    assert main(["metrics", str(run_dir), *arguments]) == WRONG
    assert message in capfd.readouterr().err


def test_a_folder_that_is_no_run_and_a_damaged_file_are_named(
    run_dir: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    assert main(["metrics", str(tmp_path / "none")]) == WRONG
    assert "there is no such folder" in capfd.readouterr().err
    (run_dir / "metrics" / "cold.jsonl").write_text("{}}\n")
    assert main(["metrics", str(run_dir)]) == WRONG
    assert "cold.jsonl is damaged" in capfd.readouterr().err
