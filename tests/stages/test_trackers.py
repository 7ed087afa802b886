"""A run as trackers get it: real TensorBoard files; the others where they are installed."""

import json
import os
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest

from pipeline.errors import WrongInput
from pipeline.recipe.load import load_recipe
from pipeline.recipe.schema import Recipe
from pipeline.stages.tracked_console import TrackedConsole, by_name, numbers
from pipeline.stages.trackers import TRACKERS, knows_wandb_key, require_trackers

ROWS = [{"step": step, "steps": 3, "reward": step / 2, "name": "x"} for step in (1, 2, 3)]


class Said:
    """A console that remembers."""

    def __init__(self) -> None:
        self.messages: list[str] = []
        self.rows: list[Mapping[str, Any]] = []

    def start(self, plan: Any, run_dir: Path) -> None: ...
    def stage(self, name: str, state: str, *, seconds: float = 0.0, note: str = "") -> None: ...
    def finish(self, results: Sequence[Mapping[str, Any]]) -> None: ...

    def metrics(self, name: str, row: Mapping[str, Any]) -> None:
        self.rows.append(row)

    def log(self, message: str) -> None:
        self.messages.append(message)


def recipe(*names: str) -> Recipe:
    return load_recipe("quickstart", [f"report_to=[{','.join(names)}]"])


def launch(run_dir: Path, *names: str, rows: Sequence[Mapping[str, Any]] = ROWS) -> Said:
    """A launch that goes through two stages."""
    said = Said()
    with TrackedConsole.opened(said, recipe(*names), run_dir) as console:
        for stage in ("reason", "align"):
            console.stage(stage, "running")
            for row in rows:
                console.metrics(stage, row)
        console.finish([{"model": "align", "accuracy": 0.5, "prompts": "held_out"}])
    assert len(said.rows) == 2 * len(rows)
    return said


def curves(run_dir: Path) -> dict[str, list[tuple[int, float]]]:
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    events = EventAccumulator(str(run_dir / "trackers" / "tensorboard"))
    events.Reload()
    return {
        tag: [(event.step, event.value) for event in events.Scalars(tag)]
        for tag in events.Tags()["scalars"]
    }


def test_a_run_of_two_launches_is_one_in_tensorboard(tmp_path: Path) -> None:
    assert launch(tmp_path, "tensorboard", rows=ROWS[:2]).messages == []
    launch(tmp_path, "tensorboard", rows=ROWS[2:])
    assert curves(tmp_path) == {
        "reason/reward": [(1, 0.5), (2, 1.0), (3, 1.5)],
        "align/reward": [(1, 0.5), (2, 1.0), (3, 1.5)],
        "results/align/accuracy": [(0, 0.5), (0, 0.5)],
    }


def test_steps_that_a_launch_could_not_show_are_told_by_the_next(tmp_path: Path) -> None:
    launch(tmp_path, "tensorboard", rows=ROWS[:1])
    file = tmp_path / "work" / "reason" / "metrics.jsonl"
    file.parent.mkdir(parents=True)
    file.write_text("".join(json.dumps(row) + "\n" for row in ROWS))  # 2 was not shown
    launch(tmp_path, "tensorboard", rows=ROWS[2:])
    assert curves(tmp_path)["reason/reward"] == [(1, 0.5), (2, 1.0), (3, 1.5)]
    assert curves(tmp_path)["align/reward"] == [(1, 0.5), (3, 1.5)]  # it wrote no more


def test_a_launch_that_runs_nothing_writes_nothing(tmp_path: Path) -> None:
    with TrackedConsole.opened(Said(), recipe("tensorboard"), tmp_path) as console:
        console.stage("reason", "finished before")
        console.finish([])
    assert not (tmp_path / "trackers").exists()


class Broken:
    """A tracker whose server is gone."""

    def __init__(self, run: Any) -> None: ...

    def metrics(self, stage: str, step: int, values: Mapping[str, float]) -> None:
        raise OSError("no route to host")

    results = close = metrics


def test_a_tracker_that_fails_is_named_once_and_the_others_go_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(TRACKERS, "wandb", Broken)  # pyright: ignore[reportArgumentType]
    (message,) = launch(tmp_path, "wandb", "tensorboard").messages
    assert "wandb" in message
    assert "no route to host" in message
    assert len(curves(tmp_path)["align/reward"]) == 3


def test_a_tracker_that_does_not_start_ends_no_run(tmp_path: Path) -> None:
    (tmp_path / "trackers").mkdir()
    (tmp_path / "trackers" / "tensorboard").write_text("a file where a folder should be")
    (message,) = launch(tmp_path, "tensorboard").messages
    assert "tensorboard does not start" in message


def test_a_missing_tracker_is_told_before_anything_runs(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "wandb", None)
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(WrongInput, match="pip install wandb"):
        require_trackers(recipe("wandb"))


def test_wandb_asks_its_server_only_where_somebody_is_logged_in(tmp_path: Path) -> None:
    nobody = {"NETRC": str(tmp_path / "none")}
    assert not knows_wandb_key(nobody)
    assert knows_wandb_key({**nobody, "WANDB_API_KEY": "x"})
    (tmp_path / "netrc").write_text("machine api.wandb.ai login user password x")
    login = {"NETRC": str(tmp_path / "netrc")}
    assert knows_wandb_key(login)
    assert not knows_wandb_key({**login, "WANDB_BASE_URL": "https://wandb.example.org"})


def test_numbers_are_what_a_curve_can_show() -> None:
    assert numbers({"a": 1, "b": 0.5, "c": "x", "d": True, "e": None}) == {"a": 1.0, "b": 0.5}
    row = {"pass_at": {"1": 0.5, "8": 1.0}, "explore": {"paths": 4, "keep": None}}
    assert numbers(row) == {"pass_at/1": 0.5, "pass_at/8": 1.0, "explore/paths": 4.0}


def test_no_result_takes_the_place_of_another_of_its_model() -> None:
    said = [("base", "a"), ("grpo", "a"), ("base", "b"), ("base", "b")]
    rows = [{"model": model, "prompts": prompts} for model, prompts in said]
    names = by_name(rows)
    assert list(names) == ["a/base", "grpo", "b/base", "b/base-2"]
    assert list(names.values()) == rows


def test_parts_of_an_evaluation_are_no_steps(tmp_path: Path) -> None:
    with TrackedConsole.opened(Said(), recipe("tensorboard"), tmp_path) as console:
        console.stage("report", "running")
        for _ in ("base", "align"):
            console.metrics("report", {"step": 1, "steps": 1, "reward": 0.5})
        console.finish([{"model": "base", "accuracy": 0.25}, {"model": "align", "accuracy": 0.5}])
    assert curves(tmp_path) == {
        "results/base/accuracy": [(0, 0.25)],
        "results/align/accuracy": [(0, 0.5)],
    }


def apart(run_dir: Path, name: str, *, rows: str) -> None:
    """A launch in a process of its own, whose library keeps what it keeps to itself."""
    program = (
        "import sys; from pathlib import Path; "
        "from tests.stages.test_trackers import ROWS, launch; "
        f"assert not (m := launch(Path(sys.argv[1]), {name!r}, rows=ROWS[{rows}]).messages), m"
    )
    ran = subprocess.run(
        [sys.executable, "-c", program, str(run_dir)], check=True, capture_output=True, timeout=120
    )
    assert ran.stdout == b""


def test_wandb_has_one_run_with_a_step_of_each_stage(tmp_path: Path) -> None:
    pytest.importorskip("wandb")
    apart(tmp_path, "wandb", rows=":2")
    apart(tmp_path, "wandb", rows="2:")
    files = sorted((tmp_path / "trackers" / "wandb").glob("offline-run-*/run-*.wandb"))
    assert len(files) == 2
    assert len({file.name for file in files}) == 1  # the same id: a sync makes one run of them
    for file, values in zip(files, (b"0.5", b"1.5"), strict=True):
        written = file.read_bytes()
        assert b"reason/reward" in written
        assert b"align/step" in written
        assert values in written


def test_trackio_has_one_run_with_a_step_of_each_stage(tmp_path: Path) -> None:
    pytest.importorskip("trackio")
    apart(tmp_path, "trackio", rows=":2")
    apart(tmp_path, "trackio", rows="2:")
    environment = os.environ | {"TRACKIO_DIR": str(tmp_path / "trackers" / "trackio")}

    def asked(*words: str) -> Any:
        command = [sys.executable, "-m", "trackio.cli", *words, "--project", "quickstart", "--json"]
        out = subprocess.run(command, env=environment, check=True, capture_output=True, timeout=120)
        return json.loads(out.stdout)

    (run,) = asked("list", "runs")["runs"]
    values = asked("get", "metric", "--run", run, "--metric", "reason/reward")["values"]
    assert [row["value"] for row in values] == [0.5, 1.0, 1.5]
