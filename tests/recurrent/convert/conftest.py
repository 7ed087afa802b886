"""A dense checkpoint."""

from pathlib import Path

import pytest

from tests.recurrent.convert.checkpoints import (
    llama_model,
    saved,
)


@pytest.fixture
def llama(tmp_path: Path) -> Path:
    return saved(llama_model(num_key_value_heads=2), tmp_path / "dense")
