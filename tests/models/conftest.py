"""The smallest model of random weights."""

from pathlib import Path

import pytest

from pipeline.models.materialize import materialize
from pipeline.recipe.model_source import ModelSource, ScratchModel

TINY = ScratchModel(hidden=32, layers=1, heads=1, mlp=32)


@pytest.fixture(scope="session")
def shape() -> ScratchModel:
    """Its sizes."""
    return TINY


@pytest.fixture(scope="session")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Its folder."""
    return materialize(ModelSource(scratch=TINY), tmp_path_factory.mktemp("tiny") / "model")
