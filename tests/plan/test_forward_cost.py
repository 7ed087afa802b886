"""FLOPs of a dense model's answers, against what PyTorch counts and what recurrent models take."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode
from transformers import (
    AutoModelForCausalLM,
    GPT2Config,
    LlamaConfig,
    OPTConfig,
    Qwen2MoeConfig,
)

from pipeline.plan.forward_cost import answer_flops, forward_cost
from pipeline.recurrent.request import DepthRequest
from pipeline.recurrent.shape import RecurrentShape, rollout_flops

SIZES: dict[str, Any] = {"vocab_size": 64, "num_hidden_layers": 2, "num_attention_heads": 4}
LLAMA = LlamaConfig(hidden_size=32, intermediate_size=48, num_key_value_heads=2, **SIZES)
CONFIGS = {
    "llama": LLAMA,
    "tied": LlamaConfig(
        hidden_size=32, intermediate_size=48, head_dim=16, tie_word_embeddings=True, **SIZES
    ),
    "gpt2": GPT2Config(n_embd=32, n_layer=2, n_head=4, vocab_size=64, n_positions=64),
    "opt": OPTConfig(hidden_size=32, ffn_dim=64, max_position_embeddings=64, **SIZES),
}


def stored(tmp_path: Path, config: Any) -> Any:
    torch.manual_seed(0)
    model = AutoModelForCausalLM.from_config(config, attn_implementation="eager").eval()
    model.save_pretrained(tmp_path)
    return model


@pytest.mark.parametrize("name", CONFIGS)
def test_an_answer_takes_what_torch_counts(tmp_path: Path, name: str) -> None:
    model = stored(tmp_path, CONFIGS[name])
    cost = forward_cost(tmp_path)
    assert cost is not None
    tokens = 12
    with torch.no_grad(), FlopCounterMode(display=False) as counter:
        model(torch.arange(tokens)[None])
    # torch runs attention in full, and the head everywhere: so does nothing of ours
    whole = answer_flops(cost, prompt_tokens=1, tokens=tokens)
    whole += cost.pair * (tokens**2 - tokens * (tokens + 1) // 2)
    assert counter.get_total_flops() == pytest.approx(whole, rel=0.01)


def test_experts_count_by_the_share_that_a_token_passes(tmp_path: Path) -> None:
    sizes = {**SIZES, "hidden_size": 32, "intermediate_size": 48, "moe_intermediate_size": 16}
    shared = {"shared_expert_intermediate_size": 16}

    def weights(experts: int, each: int) -> float:
        folder = tmp_path / f"{experts}-{each}"
        config = Qwen2MoeConfig(num_experts=experts, num_experts_per_tok=each, **sizes, **shared)
        stored(folder, config)
        cost = forward_cost(folder)
        assert cost is not None
        return cost.token

    expert = 2 * 2 * 3 * 32 * 16  # FLOPs of one in two layers
    assert weights(4, 2) - weights(4, 1) == expert
    router = 2 * 2 * 32
    assert weights(8, 2) - weights(4, 2) == 4 * router


def test_a_recurrent_model_of_one_iteration_takes_as_much(tmp_path: Path) -> None:
    stored(tmp_path, LLAMA)
    cost = forward_cost(tmp_path)
    assert cost is not None
    shape = RecurrentShape(
        hidden=32,
        mlp=48,
        heads=4,
        kv_heads=2,
        head_size=8,
        prelude=1,
        core=1,
        coda=0,
        vocabulary=64,
        injection="add",
        num_iterations=1,
        max_iterations=1,
    )
    request = DepthRequest(depth=1)
    recurrent = rollout_flops(shape, prompt_tokens=5, depths=[1] * 7, request=request)
    assert answer_flops(cost, prompt_tokens=5, tokens=7) == recurrent


@pytest.mark.parametrize("config", [{"vocab_size": 8}, {}])
def test_what_a_folder_does_not_tell_stays_unknown(tmp_path: Path, config: Any) -> None:
    (tmp_path / "config.json").write_text(json.dumps(config))
    assert forward_cost(tmp_path) is None
