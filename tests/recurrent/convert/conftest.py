"""A dense checkpoint, and the same random weights at every run."""

from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

from tests.recurrent.convert.checkpoints import (
    llama_model,
    saved,
)


@pytest.fixture(autouse=True)
def _seeded() -> Iterator[None]:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        yield


@pytest.fixture
def llama(tmp_path: Path) -> Path:
    return saved(llama_model(num_key_value_heads=2), tmp_path / "dense")
