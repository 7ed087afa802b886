"""The vLLM engine against transformers: log-probabilities, batch independence, weight versions."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import AutoModelForCausalLM, PreTrainedModel

from pipeline.generate.chat import load_chat
from pipeline.generate.engine import Part, WeightVersionError
from pipeline.generate.inverse_cdf import sample, token_draws
from pipeline.generate.vllm_engine import VllmEngine
from pipeline.generate.weights import checkpoint_weights, folder_weights, pack, unpack
from pipeline.models.materialize import materialize
from pipeline.recipe.model_source import ModelSource, ScratchModel
from pipeline.recurrent.explore import Exploration
from pipeline.recurrent.request import DepthRequest
from pipeline.train.callbacks import full_weights
from pipeline.train.engine_weights import EngineWeights
from tests.generate.vllm_requests import (
    SETTINGS,
    by_sample,
    gap,
    requests,
)
from tests.tiny_families import write_family


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


def test_the_samples_of_a_prompt_compute_it_once_to_its_last_whole_block(
    engine: VllmEngine, model: PreTrainedModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    cached = []
    step = engine._engine.step

    def counted() -> Any:
        outputs = step()
        cached.extend(output.num_cached_tokens for output in outputs if output.finished)
        return outputs

    monkeypatch.setattr(engine._engine, "step", counted)
    group = [replace(r, prompt_tokens=tuple(range(30, 75))) for r in requests(8)]
    rollouts = list(engine.generate(group, version=0))
    assert sorted(cached) == [0] + [32] * 7
    assert gap(model, rollouts) < 1e-4


@pytest.mark.parametrize("temperature", [1.0, 0.7])
def test_logprobs_equal_the_trainers(
    engine: VllmEngine, model: PreTrainedModel, temperature: float
) -> None:
    rollouts = list(engine.generate(requests(16, temperature=temperature), version=0))
    assert len(rollouts) == 16
    assert gap(model, rollouts, temperature=temperature) < 1e-4


def test_an_engine_that_sleeps_wakes_when_it_is_used(
    engine: VllmEngine, model_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """vLLM itself sleeps on GPUs alone; here its calls are counted."""
    calls: list[str] = []
    monkeypatch.setattr(engine._engine, "sleep", lambda level: calls.append(f"sleep {level}"))
    monkeypatch.setattr(engine._engine, "wake_up", lambda: calls.append("wake"))
    before = by_sample(engine, requests(2), version=0)
    engine.sleep()
    engine.sleep()
    assert calls == ["sleep 1"]
    assert by_sample(engine, requests(2), version=0) == before
    assert calls == ["sleep 1", "wake"]
    engine.sleep()
    engine.load_weights(folder_weights(model_dir), version=0)
    assert calls == ["sleep 1", "wake"] * 2
    assert by_sample(engine, requests(2), version=0) == before
    engine.sleep()
    with pytest.raises(WeightVersionError):
        list(engine.generate(requests(1), version=7))
    assert calls == [*["sleep 1", "wake"] * 2, "sleep 1"]
    by_sample(engine, requests(1), version=0)


def test_a_request_does_not_depend_on_its_batch(engine: VllmEngine) -> None:
    batch = requests(12)
    together = by_sample(engine, batch, version=0)
    backwards = by_sample(engine, batch[::-1], version=0)
    alone = by_sample(engine, batch[5:6], version=0)
    assert {i: r.tokens for i, r in together.items()} == {i: r.tokens for i, r in backwards.items()}
    assert alone[5].tokens == together[5].tokens


@torch.no_grad()
def test_tokens_are_drawn_by_seed_and_position_alone(
    engine: VllmEngine, model: PreTrainedModel
) -> None:
    """The same rule as the native engine's, greedy requests and other temperatures beside."""
    batch = [
        replace(r, temperature=temperature)
        for r, temperature in zip(requests(6), [1.0, 0.0, 0.7] * 2, strict=True)
    ]
    for r in engine.generate(batch, version=engine.version):
        request = batch[r.sample]
        ids = torch.tensor([[*r.prompt_tokens, *r.tokens]])
        last = len(r.prompt_tokens) - 1
        logits = model(ids).logits[0, last:-1]
        greedy = request.temperature == 0.0
        tokens, _ = sample(
            logits,
            temperature=torch.full((len(logits),), 1.0 if greedy else request.temperature),
            top_p=None,
            greedy=torch.full((len(logits),), greedy),
            draws=token_draws(torch.tensor(r.seed), torch.arange(last, last + len(r.tokens))),
        )
        assert tuple(tokens.tolist()) == r.tokens


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


def test_a_part_of_new_weights_is_served_by_nobody(
    engine: VllmEngine, model: PreTrainedModel, model_dir: Path
) -> None:
    """A sync that breaks off anywhere is repeated as a whole, and ends in the same bits."""
    changed = [(name, tensor * 1.05) for name, tensor in folder_weights(model_dir)]
    engine.load_weights(changed, version=3)
    expected = list(engine.generate(requests(16), version=3))
    for parts in (1, 2, 3, 5):  # of five
        for number in range(parts):
            part = Part(first=number == 0, last=number == 4)
            engine.load_weights(changed[number::5], version=4, part=part)
            if part.last:
                break
            for version in (3, 4):
                with pytest.raises(WeightVersionError, match="holds a part of new weights"):
                    next(engine.generate(requests(1), version=version))
    rollouts = list(engine.generate(requests(16), version=4))
    assert [replace(r, weight_version=3) for r in rollouts] == expected
    engine.load_weights(folder_weights(model_dir), version=5)
    assert gap(model, list(engine.generate(requests(16), version=5))) < 1e-4


def test_more_prompt_tokens_than_a_step_takes(
    engine: VllmEngine, model: PreTrainedModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    scheduler = engine._engine.engine_core.engine_core.scheduler
    monkeypatch.setattr(scheduler, "max_num_scheduled_tokens", 200)
    batch = [replace(r, prompt_tokens=tuple(range(10, 100)), max_tokens=2) for r in requests(5)]
    rollouts = list(engine.generate(batch, version=engine.version))
    assert len(rollouts) == 5
    assert gap(model, rollouts) < 1e-4


def test_a_dense_model_has_no_depth(engine: VllmEngine) -> None:
    batch = replace(requests(1)[0], depth=DepthRequest(depth=2))
    with pytest.raises(ValueError, match="'0' asks for a depth, and the model has no core"):
        next(engine.generate([batch], version=engine.version))


def test_it_does_not_explore(engine: VllmEngine) -> None:
    batch = replace(requests(1)[0], explore=Exploration(paths=2, noise=0.1))
    with pytest.raises(ValueError, match=r"asks to explore.*set hardware\.engine: native"):
        next(engine.generate([batch], version=engine.version))


@pytest.mark.slow
@pytest.mark.parametrize("family", ["mixtral", "olmoe"])
def test_families_keep_the_trainers_logprobs_with_new_weights(family: str, tmp_path: Path) -> None:
    """Experts, whose weights vLLM packs for the CPU."""
    write_family(family, tmp_path)
    model = AutoModelForCausalLM.from_pretrained(tmp_path, dtype=torch.float32)
    engine = VllmEngine(tmp_path, SETTINGS, version=0)
    assert gap(model, list(engine.generate(requests(8), version=0))) < 1e-4
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(torch.randn_like(parameter), alpha=0.05)
    engine.load_weights(checkpoint_weights(model, full_weights(model)).items(), version=1)
    rollouts = list(engine.generate(requests(8), version=1))
    assert gap(model, rollouts) < 1e-4
    weights = EngineWeights(model, named=model, bucket_bytes=2**12)
    for number, bucket in enumerate(weights, 1):
        part = Part(first=number == 1, last=number == len(weights))
        engine.load_weights(unpack(pack(bucket)), version=1, part=part)
    assert list(engine.generate(requests(8), version=1)) == rollouts


@pytest.mark.slow
@pytest.mark.parametrize("name", ["gemma", "phi3", "glm", "llama3", "qwen_base", "zephyr"])
def test_it_stops_at_a_template_s_turn_end(
    make_family: Callable[..., Path], tmp_path: Path, name: str
) -> None:
    family = load_chat(make_family(name))
    end = family.turn_end.text
    source = make_family(name, says=end)
    chat = load_chat(materialize(ModelSource(path=str(source)), tmp_path / "model"))
    engine = VllmEngine(tmp_path / "model", SETTINGS, version=0)
    request = replace(requests(1)[0], prompt_tokens=chat.prompt_ids(chat.render("Hi?", ())))
    (rollout,) = engine.generate([request], version=0)
    assert rollout.tokens == (chat.row_end,)
    assert rollout.stop == "eos"
    assert chat.completion_text(rollout) == ""
