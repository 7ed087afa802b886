"""The critic: what it reads, when it falls back to the mean, what it chooses."""

import math
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch

from pipeline.depth.compare.critic_choice import best_depths
from pipeline.depth.labels import critic
from pipeline.depth.labels.critic import Critic, fit, last_states
from pipeline.depth.model.frozen import frozen_model
from pipeline.depth.trainer_jobs import HeadJob
from pipeline.recurrent.model import RecurrentForCausalLM

MakeJob = Callable[..., HeadJob]


def test_states_are_those_of_the_last_position(make_job: MakeJob, folder: Path) -> None:
    prompts = [[3, 4, 5], [6], [7, 8, 9, 10, 11]]
    found = last_states(frozen_model(make_job()), prompts, job=make_job())
    model = RecurrentForCausalLM.from_pretrained(folder).eval().model
    for prompt, state in zip(prompts, found, strict=True):
        out = model(torch.tensor([prompt]), num_iterations=2, output_hidden_states=True)
        assert out.hidden_states is not None
        torch.testing.assert_close(state, out.hidden_states[2][0, -1], rtol=1e-4, atol=1e-4)


def test_it_beats_the_mean_where_the_state_tells() -> None:
    generator = torch.Generator().manual_seed(0)
    states = torch.randn(200, 16, generator=generator)
    hard = states[:, 0] > 0
    accuracy = torch.where(hard[:, None], torch.tensor([0.0, 0.1, 0.9]), torch.tensor([0.8] * 3))
    torch.manual_seed(0)
    tells = Critic(16, 3)
    found = fit(tells, states, accuracy, steps=200, lr=1e-2)
    assert found["loss"] < found["loss_mean"] - 0.1
    price = math.exp(-1.0)
    left = accuracy - price * torch.arange(1, 4) / 3  # [200, 3] by depth
    expected = torch.sigmoid(tells(states)).detach().numpy()
    chosen = torch.tensor(best_depths(expected, log_price=-1.0))
    reached = left.gather(1, chosen[:, None] - 1).mean()
    assert reached > left.mean(dim=0).max() + 0.05
    assert reached > left.max(dim=1).values.mean() - 0.05


def test_it_is_the_mean_where_the_state_says_nothing() -> None:
    generator = torch.Generator().manual_seed(0)
    states = torch.randn(40, 64, generator=generator)
    accuracy = (torch.rand(40, 3, generator=generator) < 0.5).float()
    torch.manual_seed(0)
    blind = Critic(64, 3)
    found = fit(blind, states, accuracy, steps=100, lr=3e-2)
    assert found["loss"] <= found["loss_mean"]
    assert found["steps"] <= 20


def test_files(make_job: MakeJob, tmp_path: Path) -> None:
    prompts = [[3 + i % 5, 4, 5 + i] for i in range(20)]
    accuracy = [[0.0, 0.0, 0.0, float(i % 5 > 2)] for i in range(20)]
    pq.write_table(
        pa.table({"prompt_tokens": prompts, "accuracy": accuracy}), tmp_path / "table.parquet"
    )
    job = make_job()
    found = critic.train(job, tmp_path / "table.parquet", steps=40, lr=1e-2)
    assert found["prompts"] == 20
    expected = np.array(critic.expected_accuracy(job, job.out, prompts))
    assert expected.shape == (20, 4)
    assert set(best_depths(expected, log_price=-3.0)) <= {1, 4}
    with pytest.raises(ValueError, match="max_depth=3 depths"):
        critic.train(make_job(max_depth=3), tmp_path / "table.parquet", steps=1, lr=1e-2)
