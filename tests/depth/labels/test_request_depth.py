"""The regression of the cheapest right depth."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
import torch.nn.functional as F

from pipeline.depth.labels import request_depth
from pipeline.depth.labels.critic import Critic, fit
from pipeline.depth.labels.request_depth import cheapest_right
from pipeline.depth.trainer_jobs import HeadJob

MakeJob = Callable[..., HeadJob]


def test_the_cheapest_depth_of_the_best_accuracy_is_wanted() -> None:
    accuracy = torch.tensor([[0.0, 0.0, 0.0], [0.0, 0.5, 0.5], [0.25, 0.5, 0.75], [1.0, 1.0, 1.0]])
    assert cheapest_right(accuracy).tolist() == [1, 2, 3, 1]


def test_it_learns_what_the_state_tells() -> None:
    generator = torch.Generator().manual_seed(0)
    states = torch.randn(200, 16, generator=generator)
    depths = torch.where(states[:, :1] > 0, 6.0, 2.0)
    torch.manual_seed(0)
    regression = Critic(16, 1)
    report = fit(
        regression,
        states,
        depths,
        start=lambda wanted: wanted.mean(dim=0),
        loss_of=F.mse_loss,
        steps=300,
        lr=1e-2,
    )
    assert report["loss"] < 0.6 * report["loss_mean"]


def test_files_in_and_files_out(make_job: MakeJob, tmp_path: Path) -> None:
    prompts = [[3 + i % 7, 4, 5 + i % 3] for i in range(15)]
    accuracy = [[0.0, 1.0, 1.0, 1.0] if p[0] % 2 else [0.0, 0.0, 0.0, 1.0] for p in prompts]
    pq.write_table(pa.table({"prompt_tokens": prompts, "accuracy": accuracy}), tmp_path / "table")
    job = make_job()
    report = request_depth.train(job, tmp_path / "table", steps=60, lr=1e-2)
    assert report["prompts"] == 15
    assert report["loss"] <= report["loss_mean"]
    expected = np.array(request_depth.expected_depths(job, job.out, prompts))
    assert expected.shape == (15, 1)
    assert 1 < expected.mean() < 4
    pq.write_table(
        pa.table({"prompt_tokens": prompts[:4], "accuracy": accuracy[:4]}), tmp_path / "few"
    )
    with pytest.raises(ValueError, match="give at least 5 prompts"):
        request_depth.train(job, tmp_path / "few", steps=1, lr=1e-2)
