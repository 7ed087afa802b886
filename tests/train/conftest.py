"""A tiny model and rows that train in a second."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from pipeline.models.materialize import materialize
from pipeline.recipe.model_source import ModelSource, ScratchModel
from pipeline.recipe.sft_stage import SftStage
from pipeline.train.job import TrainJob

MakeJob = Callable[..., TrainJob]


@pytest.fixture(scope="session")
def tiny_model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A two-layer Llama with random weights and the character tokenizer."""
    shape = ScratchModel(hidden=64, layers=2, heads=2, mlp=128, max_position=256)
    return materialize(ModelSource(scratch=shape), tmp_path_factory.mktemp("tiny"), seed=3)


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
