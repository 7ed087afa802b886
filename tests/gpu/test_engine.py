"""vLLM on a GPU says of its tokens what a trainer's model there says, in float32 and bfloat16."""

from pathlib import Path

import pytest
import torch
from transformers import AutoModelForCausalLM

from pipeline.generate.vllm_engine import VllmEngine
from pipeline.models.materialize import materialize
from pipeline.recipe.model_source import ModelSource, ScratchModel
from tests.generate.vllm_requests import differences, requests
from tests.gpu.conftest import settings

pytestmark = pytest.mark.gpu

MOST = {"float32": (1e-3, 1e-4), "bfloat16": (0.2, 0.02)}
"""Nats: the largest difference and the mean one. bfloat16 is off by 0.03 in a logit of 10."""


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    shape = ScratchModel(hidden=256, layers=4, heads=4, mlp=512, max_position=256)
    return materialize(ModelSource(scratch=shape), tmp_path_factory.mktemp("dense"), seed=3)


@pytest.mark.parametrize("dtype", MOST)
def test_logprobs_are_the_trainers(device: str, folder: Path, dtype: str) -> None:
    engine = VllmEngine(folder, settings(device, dtype=dtype), version=0)
    model = AutoModelForCausalLM.from_pretrained(folder, dtype=getattr(torch, dtype)).to(device)
    rollouts = list(engine.generate(requests(32), version=0))
    gaps = torch.cat([differences(model, rollout) for rollout in rollouts])
    print(f"{dtype} on {device}: {gaps.max():.2e} nats at most, {gaps.mean():.2e} in the mean")
    most, mean = MOST[dtype]
    assert len(rollouts) == 32
    assert gaps.max() < most
    assert gaps.mean() < mean


def test_a_seed_repeats_its_tokens(device: str, folder: Path) -> None:
    engine = VllmEngine(folder, settings(device), version=0)
    first, again = (
        {r.sample: r.tokens for r in engine.generate(requests(8), version=0)} for _ in range(2)
    )
    assert first == again
    assert len(set(first.values())) > 4
