"""Metrics rows, the stop file, complete checkpoints and the reference model."""

import dataclasses
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any, cast

import pytest
from torch import nn
from transformers import TrainerControl, TrainerState, TrainingArguments

from pipeline.measure.ledger import PhaseClock
from pipeline.train.callbacks import (
    REFERENCE_FILE,
    CompleteCheckpoints,
    MetricsWriter,
    ReferenceKeeper,
    StopOnFile,
    find_resume,
    renamed,
)
from pipeline.train.checkpoints import COMPLETE_FILE, seal
from pipeline.train.job import CHECKPOINTS, METRICS_FILE, STOP_FILE, TrainJob, read_metrics

MakeJob = Callable[..., TrainJob]


@dataclasses.dataclass
class Arguments:
    """The training arguments that callbacks read."""

    output_dir: str = ""
    process_index: int = 0
    world_size: int = 1


def arguments(job: TrainJob, *, rank: int = 0) -> TrainingArguments:
    found = Arguments(output_dir=str(job.work / CHECKPOINTS), process_index=rank)
    return cast(TrainingArguments, found)


def state(step: int, *, steps: int = 10) -> TrainerState:
    return TrainerState(global_step=step, max_steps=steps)


def log(writer: MetricsWriter, job: TrainJob, step: int, **logs: float) -> None:
    writer.on_log(arguments(job), state(step), TrainerControl(), logs={"loss": 1.0, **logs})


def checkpoint(folder: Path, step: int, *, complete: bool = True) -> Path:
    path = folder / f"checkpoint-{step}"
    path.mkdir(parents=True)
    (path / "model.safetensors").write_text("weights")
    if complete:
        seal(path)
    return path


def test_one_row_per_step_under_our_names(make_job: MakeJob) -> None:
    job = make_job()
    writer = MetricsWriter(job, extra=lambda: {"resampled_groups": 2.0})
    writer.on_train_begin(arguments(job), state(0), TrainerControl())
    log(writer, job, 1, learning_rate=0.5, num_tokens=100.0)
    writer.on_log(arguments(job), state(1), TrainerControl(), logs={"train_runtime": 1.0})
    (row,) = read_metrics(job.work / METRICS_FILE)
    assert row["step"] == 1
    assert row["steps"] == 10
    assert row["lr"] == 0.5
    assert row["resampled_groups"] == 2.0
    assert row["tokens_per_s"] > 0
    assert row["seconds_left"] >= 0
    assert "num_tokens" not in row


def test_resume_drops_rows_past_the_checkpoint(make_job: MakeJob) -> None:
    job = make_job()
    writer = MetricsWriter(job)
    writer.on_train_begin(arguments(job), state(0), TrainerControl())
    for step in range(1, 6):
        log(writer, job, step)
    with (job.work / METRICS_FILE).open("a") as file:
        file.write('{"step": 6, "lo')
    again = MetricsWriter(job)
    again.on_train_begin(arguments(job), state(3), TrainerControl())
    log(again, job, 4)
    assert [row["step"] for row in read_metrics(job.work / METRICS_FILE)] == [1, 2, 3, 4]


def test_a_rows_phases_add_up_and_the_first_says_what_came_before(make_job: MakeJob) -> None:
    job = make_job()
    now = 0.0
    writer = MetricsWriter(job, phases=PhaseClock(clock=lambda: now))
    now = 7.0
    writer.on_train_begin(arguments(job), state(0), TrainerControl())
    for step, seconds in ((1, 2.0), (2, 3.0)):
        writer.on_step_begin(arguments(job), state(step - 1), TrainerControl())
        now += seconds
        saving = TrainerControl(should_save=True)
        writer.on_log(arguments(job), state(step), saving, logs={"loss": 1.0})
        now += 1.0  # the checkpoint, which the next row counts
    first, second = read_metrics(job.work / METRICS_FILE)
    assert first["start_seconds"] == 7.0
    assert "start_seconds" not in second
    assert (first["step_seconds"], first["seconds/training"]) == (2.0, 2.0)
    assert (second["seconds/training"], second["seconds/checkpoint"]) == (3.0, 1.0)
    assert second["step_seconds"] == 4.0


def test_other_ranks_write_nothing(make_job: MakeJob) -> None:
    job = make_job()
    writer = MetricsWriter(job)
    writer.on_train_begin(arguments(job, rank=1), state(0), TrainerControl())
    writer.on_log(arguments(job, rank=1), state(1), TrainerControl(), logs={"loss": 1.0})
    assert not job.work.exists()


def test_rows_have_our_names() -> None:
    logs = {"learning_rate": 0.5, "rewards/answer/std": 0.1, "epoch": 2.0, "kl": 0.25}
    assert renamed(logs) == {"lr": 0.5, "kl": 0.25}


def test_stop_file_is_seen_at_rollout_boundaries_only(make_job: MakeJob) -> None:
    job = make_job()
    job.work.mkdir(parents=True)
    stop = StopOnFile(job, every=4)

    def saves(step: int) -> bool:
        control = TrainerControl()
        stop.on_step_end(arguments(job), state(step), control)
        assert control.should_save == control.should_training_stop
        return control.should_save

    assert not saves(4)
    (job.work / STOP_FILE).touch()
    assert not saves(6)
    assert not stop.stopped
    assert saves(8)
    assert stop.stopped


def test_a_stop_at_the_last_step_is_no_stop(make_job: MakeJob) -> None:
    job = make_job()
    job.work.mkdir(parents=True)
    (job.work / STOP_FILE).touch()
    stop = StopOnFile(job)
    stop.on_step_end(arguments(job), state(10), TrainerControl())
    assert not stop.stopped


def test_two_complete_checkpoints_are_kept(make_job: MakeJob) -> None:
    job = make_job()
    folder = job.work / CHECKPOINTS
    keeper = CompleteCheckpoints(job)
    for step in (2, 4, 10):
        checkpoint(folder, step, complete=False)
        keeper.on_save(arguments(job), state(step), TrainerControl())
    assert sorted(path.name for path in folder.iterdir()) == ["checkpoint-10", "checkpoint-4"]
    assert find_resume(job) == folder / "checkpoint-10"


def test_the_marker_is_the_last_file_of_a_checkpoint(
    make_job: MakeJob, monkeypatch: pytest.MonkeyPatch
) -> None:
    job = make_job()
    path = checkpoint(job.work / CHECKPOINTS, 2, complete=False)

    def fail(_: Path) -> None:
        raise OSError("disk full")

    with monkeypatch.context() as patch:
        patch.setattr("pipeline.train.checkpoints.sync", fail)
        with pytest.raises(OSError, match="disk full"):
            CompleteCheckpoints(job).on_save(arguments(job), state(2), TrainerControl())
    assert not (path / COMPLETE_FILE).exists()


def linear(value: float) -> nn.Linear:
    model = nn.Linear(2, 1, bias=False)
    nn.init.constant_(model.weight, value)
    return model


def test_reference_is_replaced_whole_and_on_time() -> None:
    policy, reference = linear(3.0), linear(1.0)
    keeper = ReferenceKeeper(reference, every=2)

    def step(number: int) -> float:
        args: Any = Arguments()
        keeper.on_step_end(args, state(number), TrainerControl(), model=policy)
        return reference.weight[0, 0].item()

    assert step(1) == 1.0
    assert step(2) == 3.0
    nn.init.constant_(policy.weight, 5.0)
    assert reference.weight[0, 0].item() == 3.0  # a copy, not a view
    never = ReferenceKeeper(reference, every=None)
    never.on_step_end(cast(Any, Arguments()), state(400), TrainerControl(), model=policy)
    assert reference.weight[0, 0].item() == 3.0


def test_reference_survives_a_resume(make_job: MakeJob) -> None:
    job = make_job()
    path = checkpoint(job.work / CHECKPOINTS, 4)
    keeper = ReferenceKeeper(linear(3.0), every=2)
    keeper.on_save(arguments(job), state(4), TrainerControl())
    assert (path / REFERENCE_FILE).exists()
    fresh = linear(1.0)
    ReferenceKeeper(fresh, every=2, resumed=path)
    assert fresh.weight[0, 0].item() == 3.0


def test_rows_are_json(make_job: MakeJob) -> None:
    job = make_job()
    writer = MetricsWriter(job)
    writer.on_train_begin(arguments(job), state(0), TrainerControl())
    log(writer, job, 1)
    assert json.loads((job.work / METRICS_FILE).read_text())["loss"] == 1.0
