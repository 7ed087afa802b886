"""The vLLM engine against transformers: log-probabilities, batch independence, weight versions."""

from collections.abc import Sequence
from pathlib import Path

import pytest
import torch
from transformers import AutoModelForCausalLM, PreTrainedModel

from pipeline.generate.engine import EngineSettings, WeightVersionError
from pipeline.generate.vllm_engine import VllmEngine
from pipeline.generate.weights import folder_weights, pack, unpack
from pipeline.recipe import ModelSource, ScratchModel
from pipeline.records import Request, Rollout
from pipeline.train.base_model import materialize

SETTINGS = EngineSettings(
    max_model_tokens=128,
    max_sequences=32,
    device="cpu",
    dtype="float32",
    kv_cache_gib=1,
    gpus=1,
    gpu_memory_fraction=0.5,
)


@pytest.fixture(scope="module")
def model_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    shape = ScratchModel(hidden=64, layers=2, heads=2, mlp=128, max_position=128)
    return materialize(ModelSource(scratch=shape), tmp_path_factory.mktemp("engine"), seed=3)


@pytest.fixture(scope="module")
def model(model_dir: Path) -> PreTrainedModel:
    return AutoModelForCausalLM.from_pretrained(model_dir, dtype=torch.float32)


@pytest.fixture(scope="module")
def engine(model_dir: Path) -> VllmEngine:
    return VllmEngine(model_dir, SETTINGS, version=0)


def requests(count: int, *, temperature: float = 1.0) -> list[Request]:
    return [
        Request(
            prompt_id=str(i),
            prompt_tokens=tuple(range(10, 15 + i % 7)),
            sample=i,
            seed=1000 + i,
            max_tokens=20,
            temperature=temperature,
        )
        for i in range(count)
    ]


@torch.no_grad()
def gap(model: PreTrainedModel, rollouts: Sequence[Rollout], *, temperature: float = 1.0) -> float:
    """Largest difference in nats between the engine's and the model's log-probabilities."""
    worst = 0.0
    for r in rollouts:
        ids = torch.tensor([[*r.prompt_tokens, *r.tokens]])
        logits = model(ids).logits[0, len(r.prompt_tokens) - 1 : -1] / temperature
        taken = logits.log_softmax(-1).gather(1, torch.tensor(r.tokens)[:, None])[:, 0]
        worst = max(worst, (taken - torch.tensor(r.logprobs)).abs().max().item())
    return worst


def by_sample(engine: VllmEngine, asked: Sequence[Request], *, version: int) -> dict[int, Rollout]:
    return {r.sample: r for r in engine.generate(asked, version=version)}


@pytest.mark.parametrize("temperature", [1.0, 0.7])
def test_logprobs_equal_the_trainers(
    engine: VllmEngine, model: PreTrainedModel, temperature: float
) -> None:
    rollouts = list(engine.generate(requests(16, temperature=temperature), version=0))
    assert len(rollouts) == 16
    assert gap(model, rollouts, temperature=temperature) < 1e-4


def test_a_request_does_not_depend_on_its_batch(engine: VllmEngine) -> None:
    asked = requests(12)
    together = by_sample(engine, asked, version=0)
    backwards = by_sample(engine, asked[::-1], version=0)
    alone = by_sample(engine, asked[5:6], version=0)
    assert {i: r.tokens for i, r in together.items()} == {i: r.tokens for i, r in backwards.items()}
    assert alone[5].tokens == together[5].tokens


def test_new_weights_are_used_and_old_versions_refused(
    engine: VllmEngine, model: PreTrainedModel, model_dir: Path
) -> None:
    generator = torch.Generator().manual_seed(0)
    changed = AutoModelForCausalLM.from_pretrained(model_dir, dtype=torch.float32)
    with torch.no_grad():
        for parameter in changed.parameters():
            parameter += 0.05 * torch.randn(parameter.shape, generator=generator)
    engine.load_weights(unpack(pack(changed.state_dict())), version=1)
    rollouts = list(engine.generate(requests(16), version=1))
    assert gap(changed, rollouts) < 1e-4
    assert gap(model, rollouts) > 1e-2
    with pytest.raises(WeightVersionError, match="holds weight version 1, rollouts of 0"):
        next(engine.generate(requests(1), version=0))
    engine.load_weights(folder_weights(model_dir), version=2)  # a tied head comes along
    assert gap(model, list(engine.generate(requests(16), version=2))) < 1e-4
