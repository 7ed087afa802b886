"""An engine that shares its GPU gives the memory back while it sleeps, and wakes as it was."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch

from pipeline.generate.vllm_engine import VllmEngine
from pipeline.models.materialize import materialize
from pipeline.recipe.model_source import ModelSource, ScratchModel
from tests.generate.vllm_requests import by_sample, requests
from tests.gpu.conftest import settings

pytestmark = pytest.mark.gpu


def test_a_sleeping_engine_leaves_its_memory(tmp_path: Path) -> None:
    shape = ScratchModel(hidden=256, layers=4, heads=4, mlp=512, max_position=256)
    folder = materialize(ModelSource(scratch=shape), tmp_path / "model", seed=3)
    shared = replace(settings("cuda", dtype="bfloat16", memory=0.5), channel="ipc")
    engine = VllmEngine(folder, shared, version=0)
    before = by_sample(engine, requests(8), version=0)
    awake, whole = torch.cuda.mem_get_info()
    engine.sleep()
    asleep, _ = torch.cuda.mem_get_info()
    print(f"{(asleep - awake) / whole:.0%} of the GPU given back")
    assert asleep - awake > 0.4 * whole
    again = by_sample(engine, requests(8), version=0)
    assert {i: r.tokens for i, r in again.items()} == {i: r.tokens for i, r in before.items()}
    assert torch.cuda.mem_get_info()[0] < asleep - 0.4 * whole
