"""Rows of metrics that an earlier launch left: what is shown again, cut back, and missed."""

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest

from pipeline.stages.context import RunContext
from pipeline.stages.support import train
from pipeline.train.checkpoints import seal
from pipeline.train.job import (
    CHECKPOINTS,
    DONE,
    METRICS_FILE,
    cut_metrics,
    read_metrics,
    whole_rows,
)

STEPS = 8


class Launch:
    """A launch of a training of `STEPS` updates, whose trainer writes rows as the real one does."""

    def __init__(self, work: Path) -> None:
        self.work = work
        self.shown: list[int] = []
        self.said: list[str] = []
        console = SimpleNamespace(metrics=self.show, log=self.said.append)
        cluster = SimpleNamespace(train=self.fit)
        ctx = SimpleNamespace(
            work=work, out=work / "out", console=console, cluster=cluster, stopping=lambda: False
        )
        training: Any = None  # the cluster's own here
        train(cast(RunContext, ctx), cast(Any, SimpleNamespace(name="cold")), training)

    def show(self, name: str, row: Mapping[str, Any]) -> None:
        self.shown.append(row["step"])

    def fit(self, training: object, *, poll: Callable[[], None]) -> dict[str, Any]:
        poll()  # before the trainer has begun
        file = self.work / METRICS_FILE
        begun = max((row["step"] for row in read_metrics(file)), default=0)
        for step in range(begun + 1, STEPS + 1):
            write(file, step)
            poll()
        return {"status": DONE, "steps": STEPS}


def write(file: Path, *steps: int) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    with file.open("a") as rows:
        rows.writelines(json.dumps({"step": step, "loss": 1.0}) + "\n" for step in steps)


def interrupted(work: Path, *steps: int, checkpoint: int) -> Path:
    """A work folder as a crash leaves it: rows of these steps, an older whole checkpoint."""
    write(work / METRICS_FILE, *steps)
    folder = work / CHECKPOINTS / f"checkpoint-{checkpoint}"
    folder.mkdir(parents=True)
    (folder / "model.safetensors").write_text("weights")
    seal(folder)
    return work


def test_a_first_launch_shows_every_row(tmp_path: Path) -> None:
    launch = Launch(tmp_path / "work")
    assert launch.shown == list(range(1, STEPS + 1))
    assert launch.said == []


def test_a_resume_shows_rows_of_what_it_trains(tmp_path: Path) -> None:
    launch = Launch(interrupted(tmp_path, 1, 2, 3, 4, 5, checkpoint=4))
    assert launch.shown == [5, 6, 7, 8]
    assert launch.said == ["cold: resumed at step 5, from checkpoint-4"]
    assert [row["step"] for row in read_metrics(tmp_path / METRICS_FILE)] == list(range(1, 9))


def test_rows_without_any_checkpoint_are_made_again(tmp_path: Path) -> None:
    write(tmp_path / METRICS_FILE, 1, 2)
    assert Launch(tmp_path).shown == list(range(1, STEPS + 1))


def test_lost_rows_are_told(tmp_path: Path) -> None:
    launch = Launch(interrupted(tmp_path, 1, 3, 4, checkpoint=4))
    assert launch.said[1].startswith("warning: cold: ")
    assert "metrics.jsonl lacks 1 of 4 rows" in launch.said[1]


@pytest.mark.parametrize("line", ['{"step": 2, "lo', "\x00\x00", "[]", "{}", "", "\ufffd"])
def test_a_damaged_row_goes_and_counts_as_lost(line: str, tmp_path: Path) -> None:
    file = tmp_path / METRICS_FILE
    write(file, 1)
    with file.open("a") as rows:
        rows.write(line + "\n")
    write(file, 3)
    assert [row["step"] for row in whole_rows(file)] == [1, 3]
    assert cut_metrics(file, step=3) == 1
    assert [row["step"] for row in read_metrics(file)] == [1, 3]
    assert cut_metrics(file, step=2) == 1
    assert [row["step"] for row in read_metrics(file)] == [1]
