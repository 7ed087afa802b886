"""A tiny model and rows that train in a second."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch

from pipeline.models.materialize import materialize
from pipeline.recipe.model_source import ModelSource, ScratchModel
from pipeline.recipe.sft_stage import SftStage
from pipeline.recurrent.config import RecurrentConfig
from pipeline.recurrent.model import RecurrentForCausalLM
from pipeline.train.job import TrainJob

MakeJob = Callable[..., TrainJob]


@pytest.fixture(scope="session")
def tiny_model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A two-layer Llama with random weights and the character tokenizer."""
    shape = ScratchModel(hidden=64, layers=2, heads=2, mlp=128, max_position=256)
    return materialize(ModelSource(scratch=shape), tmp_path_factory.mktemp("tiny"), seed=3)


@pytest.fixture(scope="session")
def recurrent_model(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Path:
    """A recurrent model with a halting head, at 4 of at most 5 iterations, whose every part
    matters. Its iterations are tied, or what an indirect parameter says."""
    shape = ScratchModel(
        hidden=64, core=1, heads=2, mlp=96, max_position=256, iterations=4, max_iterations=5
    )
    folder = materialize(ModelSource(scratch=shape), tmp_path_factory.mktemp("recurrent"), seed=3)
    config = RecurrentConfig.from_pretrained(folder)
    config.halting_width = 8
    config.tie_iterations = getattr(request, "param", True)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model = RecurrentForCausalLM(config)
        with torch.no_grad():
            for parameter in model.parameters():
                parameter += 0.1 * torch.randn(parameter.shape)
    model.save_pretrained(folder)
    return folder


@pytest.fixture
def make_job(tiny_model: Path, tmp_path: Path) -> MakeJob:
    """Build a job in `tmp_path/NAME`; keywords change its specification."""

    def build(name: str = "job", *, spec: Any = None, **keywords: Any) -> TrainJob:
        spec = spec or SftStage(
            kind="sft",
            rows="x",
            **{"lr": 1e-2, "batch_rows": 8, "micro_batch_rows": 4, "save_steps": 4} | keywords,
        )
        return TrainJob(
            spec=spec,
            model=tiny_model,
            out=tmp_path / name / "out",
            work=tmp_path / name / "work",
            seed=5,
            device="cpu",
            ranks=1,
            sharding="none",
            threads=1,
        )

    return build


@pytest.fixture
def sft_rows(tmp_path: Path) -> Path:
    """Forty rows of different lengths: say a number back."""
    numbers = [str(7**k % 10 ** (k % 5 + 1)) for k in range(40)]
    table = {
        "prompt": [f"<user>{n}<assistant>" for n in numbers],
        "completion": [f"<think>{n}</think>{n}" for n in numbers],
    }
    pq.write_table(pa.table(table), tmp_path / "rows.parquet")
    return tmp_path / "rows.parquet"
