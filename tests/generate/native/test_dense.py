"""Dense models in the native engine: transformers' log-probabilities, vLLM's rollouts."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import (
    AutoModelForCausalLM,
    GPT2Config,
    LlamaConfig,
    PreTrainedConfig,
    PreTrainedModel,
    Qwen2Config,
    Qwen3Config,
)

from pipeline.generate.native_engine import NativeEngine
from pipeline.generate.weights import checkpoint_weights, folder_weights
from pipeline.records import Request
from pipeline.recurrent.explore import Exploration
from pipeline.recurrent.request import DepthRequest
from tests.generate.engine_settings import cpu_settings

VOCABULARY, EOS = 97, 5
SIZES: dict[str, Any] = {
    "vocab_size": VOCABULARY,
    "hidden_size": 64,
    "intermediate_size": 128,
    "num_hidden_layers": 3,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 64,
    "eos_token_id": EOS,
}
LLAMA3_ROPE: dict[str, Any] = {
    "rope_type": "llama3",
    "rope_theta": 10000.0,
    "factor": 4.0,
    "low_freq_factor": 1.0,
    "high_freq_factor": 4.0,
    "original_max_position_embeddings": 16,
}
CONFIGS = {
    "llama": LlamaConfig(**SIZES),
    "llama, tied, one layer": LlamaConfig(
        **{**SIZES, "num_hidden_layers": 1}, tie_word_embeddings=True
    ),
    "llama 3 with biases": LlamaConfig(
        **SIZES, rope_parameters=LLAMA3_ROPE, attention_bias=True, mlp_bias=True
    ),
    "qwen2": Qwen2Config(**SIZES),
    "qwen3": Qwen3Config(**SIZES, head_dim=32),
}
SETTINGS = cpu_settings(tokens=64)


def build(folder: Path, config: PreTrainedConfig, *, seed: int = 0) -> PreTrainedModel:
    """A random model whose norms and biases all matter."""
    torch.manual_seed(seed)
    model = AutoModelForCausalLM.from_config(config, dtype=torch.float32).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter += 0.1 * torch.randn(parameter.shape)
    model.save_pretrained(folder)
    return model


def requests(count: int = 20) -> list[Request]:
    """Groups of four, uneven prompts, more than there are rows."""
    draw = torch.Generator().manual_seed(1)
    prompts = [torch.randint(6, 90, (1 + 7 * i % 20,), generator=draw) for i in range(count // 4)]
    return [
        Request(
            prompt_id=str(i // 4),
            prompt_tokens=tuple(prompts[i // 4].tolist()),
            sample=i % 4,
            seed=2**40 + 31 * i,
            max_tokens=14 - i % 3,
            temperature=1.0,
        )
        for i in range(count)
    ]


@pytest.mark.parametrize("kind", CONFIGS)
def test_log_probabilities_are_the_models_own(kind: str, tmp_path: Path) -> None:
    model = build(tmp_path, CONFIGS[kind])
    rollouts = list(NativeEngine(tmp_path, SETTINGS, version=3).generate(requests(), version=3))
    assert len(rollouts) == 20
    for rollout in rollouts:
        ids = torch.tensor([rollout.prompt_tokens + rollout.tokens])
        with torch.no_grad():
            logprobs = model(ids).logits[0].log_softmax(-1)
        start = len(rollout.prompt_tokens)
        own = [float(logprobs[start + i - 1, t]) for i, t in enumerate(rollout.tokens)]
        assert rollout.logprobs == pytest.approx(own, abs=1e-5)
        assert (rollout.tokens[-1] == EOS) == (rollout.stop == "eos")
        assert (rollout.depths, rollout.prompt_depth, rollout.depth_logprobs) == (None, None, None)
        assert (rollout.flops, rollout.weight_version) == (0.0, 3)


@pytest.mark.parametrize("kind", CONFIGS)
def test_new_weights_are_those_of_a_fresh_engine(kind: str, tmp_path: Path) -> None:
    build(tmp_path / "old", CONFIGS[kind])
    model = build(tmp_path / "new", CONFIGS[kind], seed=1)
    engine = NativeEngine(tmp_path / "old", SETTINGS, version=0)
    fresh = NativeEngine(tmp_path / "new", SETTINGS, version=1)
    for weights in (
        folder_weights(tmp_path / "new"),
        checkpoint_weights(model, dict(model.named_parameters())).items(),
    ):
        engine.load_weights(folder_weights(tmp_path / "old"), version=0)
        before = list(engine.generate(requests(), version=0))
        engine.load_weights(weights, version=1)
        after = list(engine.generate(requests(), version=1))
        assert after == list(fresh.generate(requests(), version=1))
        assert [r.tokens for r in after] != [r.tokens for r in before]


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"depth": DepthRequest(depth=1)}, "'0' asks for a depth, and the model has no core"),
        ({"explore": Exploration(paths=2, noise=0.1)}, "'0' asks to explore, and the model has no"),
    ],
)
def test_a_dense_model_has_no_depth(change: dict[str, object], words: str, tmp_path: Path) -> None:
    build(tmp_path, CONFIGS["llama"])
    engine = NativeEngine(tmp_path, SETTINGS, version=0)
    asked = [replace(requests()[0], **change)]  # pyright: ignore[reportArgumentType]
    with pytest.raises(ValueError, match=words):
        list(engine.generate(asked, version=0))


def test_weights_of_another_shape_are_refused(tmp_path: Path) -> None:
    build(tmp_path, CONFIGS["llama"])
    engine = NativeEngine(tmp_path, SETTINGS, version=0)
    for name in ("model.layers.3.mlp.up_proj.weight", "model.layers.1.mlp.up_proj.weight"):
        with pytest.raises(ValueError, match=f"weights hold {name} of shape"):
            engine.load_weights([(name, torch.zeros(2, 2))], version=1)


def test_models_that_it_has_no_code_for_are_refused(tmp_path: Path) -> None:
    build(tmp_path / "gpt2", GPT2Config(n_embd=32, n_layer=1, n_head=2, vocab_size=VOCABULARY))
    with pytest.raises(ValueError, match="dense ones of llama, qwen2, qwen3; this one's is 'gpt2'"):
        NativeEngine(tmp_path / "gpt2", SETTINGS, version=0)
    build(tmp_path / "dynamic", CONFIGS["llama"])
    file = tmp_path / "dynamic" / "config.json"
    config = json.loads(file.read_text())
    config["rope_parameters"] = {"rope_type": "dynamic", "rope_theta": 10000.0, "factor": 2.0}
    file.write_text(json.dumps(config))
    with pytest.raises(ValueError, match="keeps rotated keys: use a static rope_type"):
        NativeEngine(tmp_path / "dynamic", SETTINGS, version=0)


def test_code_of_a_models_own_is_refused(tmp_path: Path) -> None:
    build(tmp_path, CONFIGS["llama"])
    with pytest.raises(ValueError, match="runs none of a model's own code"):
        NativeEngine(tmp_path, replace(SETTINGS, own_code=True), version=0)
