"""Distillation on rows and on the student's own completions."""

import dataclasses
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from pipeline.models.materialize import materialize
from pipeline.recipe.distill_stage import DistillStage
from pipeline.recipe.model_source import ModelSource, ScratchModel
from pipeline.train import distill_trainer
from pipeline.train.job import DONE, METRICS_FILE, STOP_FILE, STOPPED, TrainJob, read_metrics

MakeJob = Callable[..., TrainJob]


def stage(**changes: Any) -> DistillStage:
    return DistillStage(
        kind="distill",
        teacher="x",
        student=ModelSource(path="x"),
        rows="x",
        **{"lr": 5e-3, "batch_rows": 8, "micro_batch_rows": 4, "max_tokens": 24} | changes,
    )


@pytest.fixture(scope="session")
def student(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Half of the teacher's depth and width."""
    shape = ScratchModel(hidden=32, layers=1, heads=1, mlp=64, max_position=256)
    folder = tmp_path_factory.mktemp("student")
    return materialize(ModelSource(scratch=shape), folder, seed=4)


def test_rows_mode_learns_from_completions(
    make_job: MakeJob, student: Path, sft_rows: Path
) -> None:
    job = dataclasses.replace(make_job(spec=stage(max_tokens=64, epochs=4)), model=student)
    info = distill_trainer.train(job, sft_rows)
    assert info["status"] == DONE
    assert info["loss"] < read_metrics(job.work / METRICS_FILE)[0]["loss"]


def test_on_policy_approaches_the_teacher(
    make_job: MakeJob, student: Path, tiny_model: Path, sft_rows: Path
) -> None:
    spec = stage(steps=12, mode="on_policy")
    job = dataclasses.replace(make_job(spec=spec), model=student)
    info = distill_trainer.train_on_policy(job, sft_rows, tiny_model)
    assert (info["status"], info["steps"], info["prompts"]) == (DONE, 12, 40)
    rows = read_metrics(job.work / METRICS_FILE)
    assert rows[-1]["loss"] < rows[0]["loss"]
    assert {"completion_tokens", "truncated_share", "tokens_per_s"} <= rows[0].keys()
    assert (job.out / "model.safetensors").exists()


def test_on_policy_resumes_with_the_same_bits(
    make_job: MakeJob, student: Path, tiny_model: Path, sft_rows: Path
) -> None:
    spec = stage(steps=4, mode="on_policy")
    whole, stopped = (
        dataclasses.replace(make_job(name, spec=spec), model=student)
        for name in ("whole", "stopped")
    )
    info = distill_trainer.train_on_policy(whole, sft_rows, tiny_model)
    stopped.work.mkdir(parents=True)
    (stopped.work / STOP_FILE).touch()
    assert distill_trainer.train_on_policy(stopped, sft_rows, tiny_model)["status"] == STOPPED
    (stopped.work / STOP_FILE).unlink()
    assert distill_trainer.train_on_policy(stopped, sft_rows, tiny_model) == info
    ours, theirs = (load_file(job.out / "model.safetensors") for job in (whole, stopped))
    assert all(torch.equal(ours[name], theirs[name]) for name in ours)


def test_prompts_without_room_are_an_error(
    make_job: MakeJob, tiny_model: Path, sft_rows: Path
) -> None:
    job = make_job(spec=stage(max_tokens=2, mode="on_policy", steps=1))
    with pytest.raises(ValueError, match="none of 40 prompts leaves room in max_tokens=2"):
        distill_trainer.train_on_policy(job, sft_rows, tiny_model)
