"""New weights reach engines on GPUs: of their own by NCCL, of the trainer's by CUDA IPC.

Both through Ray's actors as in a run; the trainer is one more, as the test itself holds no GPU.
"""

from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import ray

from pipeline.cluster.actors import EngineActor, ServiceClient
from pipeline.models.materialize import materialize
from pipeline.plan.engine_choice import Channel
from pipeline.recipe.model_source import ModelSource, ScratchModel
from pipeline.records import Rollout
from tests.generate.vllm_requests import requests
from tests.gpu.conftest import settings

pytestmark = pytest.mark.gpu

SHAPE = ScratchModel(hidden=256, layers=4, heads=4, mlp=512, max_position=256)


@pytest.fixture
def cluster() -> Iterator[None]:
    ray.init(address="local", include_dashboard=False, log_to_driver=False)
    yield
    ray.shutdown()


@ray.remote
class Trainer:
    """Holds a model on its GPU and sends its weights."""

    def push(self, folder: Path, engines: list[Any], *, channel: Channel, version: int) -> None:
        import torch
        from transformers import AutoModelForCausalLM

        from pipeline.train.engine_weights import EngineWeights

        model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.bfloat16).to("cuda")
        weights = EngineWeights(model, named=model, bucket_bytes=2**20)
        client = ServiceClient(None, engines, channel=channel)
        client.push_weights(weights, version=version)


def tokens(engine: Any, *, version: int) -> Mapping[int, tuple[int, ...]]:
    batch = [replace(r, temperature=0.0) for r in requests(16)]
    chunks = engine.generate.options(num_returns="streaming").remote(batch, version=version)
    rows: list[Rollout] = [rollout for chunk in chunks for rollout in ray.get(chunk)]
    return {rollout.sample: rollout.tokens for rollout in rows}


def check(channel: Channel, *, gpus: float, tmp_path: Path) -> None:
    """Weights that were pushed are as if the engine had been started with them."""
    old, new = (
        materialize(ModelSource(scratch=SHAPE), tmp_path / name, seed=seed)
        for name, seed in (("old", 3), ("new", 4))
    )
    asked = replace(settings("cuda", dtype="bfloat16"), channel=channel)

    def engine(name: str, model: Path) -> Any:
        actor = EngineActor.options(num_gpus=gpus).remote(tmp_path / f"{name}.log")
        ray.get(actor.load.remote(model, asked, version=0))
        return actor

    changed = engine("changed", old)
    before = tokens(changed, version=0)
    if channel == "ipc":
        ray.get(changed.sleep.remote())  # a push wakes it
    trainer = Trainer.options(num_gpus=gpus).remote()
    for version in (1, 2):  # the second time the way is there already
        ray.get(trainer.push.remote(new, [changed], channel=channel, version=version))
    after = tokens(changed, version=2)
    ray.kill(changed)
    ray.kill(trainer)
    expected = tokens(engine("fresh", new), version=0)
    assert after == expected
    assert after != before


@pytest.mark.gpus(2)
def test_weights_by_nccl(cluster: None, tmp_path: Path) -> None:
    check("nccl", gpus=1.0, tmp_path=tmp_path)


def test_weights_by_cuda_ipc(cluster: None, tmp_path: Path) -> None:
    check("ipc", gpus=0.5, tmp_path=tmp_path)
