"""A run folder that was moved is read where it is: no command follows a path of before."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from pipeline.artifacts import publish
from pipeline.cli.app import main
from pipeline.errors import OK
from pipeline.records import write_scored
from tests.watch.runs import answer, evaluated_run

Moved = Callable[[], Path]


@pytest.fixture
def moved(tmp_path: Path) -> Moved:
    """Make a run with all that it can have, move it, and leave nothing where it was."""

    def make() -> Path:
        stages = {
            "reason": {"kind": "grpo"},
            "report": {"kind": "evaluate", "reward": "answer"},
            "export": {"kind": "export", "model": "reason"},
        }
        before = evaluated_run(
            tmp_path / "before", {"base": [[1.0], [0.0]]}, recipe={"stages": stages}
        )
        (tmp_path / "draft" / "model").mkdir(parents=True)
        (tmp_path / "draft" / "model" / "config.json").write_text("{}")
        publish(
            tmp_path / "draft",
            before / "stages" / "export",
            kind="export",
            stage="export",
            fingerprint="e",
        )
        for place in ("journal/reason", "work/reason"):
            (before / place).mkdir(parents=True)
        file = before / "journal" / "reason" / "step-000001.parquet"
        write_scored([answer("id-0+1?", 0, 1.0, model="reason")], file)
        (before / "work" / "reason" / "metrics.jsonl").write_text('{"step": 1, "reward": 0.5}\n')
        state = [
            {"name": name, "kind": spec["kind"], "status": "done", "seconds": 1.0}
            | {"artifact": str(before / "stages" / name)}  # as older versions wrote it
            for name, spec in stages.items()
        ]
        (before / "state.json").write_text(json.dumps(state))
        shutil.copytree(before, tmp_path / "after")
        shutil.rmtree(before)
        return tmp_path / "after"

    return make


COMMANDS = ("report", "rollouts", "verify", "metrics", "export", "compare")


@pytest.mark.parametrize("command", COMMANDS)
def test_commands_read_it_where_it_is(
    command: str, moved: Moved, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    run = moved()
    runs = [str(run), str(run)] if command == "compare" else [str(run)]
    assert main([command, *runs, "--json"]) == OK
    document = capfd.readouterr().out
    assert json.loads(document)
    assert str(tmp_path / "before") not in document
    for page in run.glob("*.html"):
        assert str(tmp_path / "before") not in page.read_text()
