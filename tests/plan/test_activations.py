"""What a forward pass keeps, against what autograd does save."""

from typing import Any

import pytest
import torch
from transformers import LlamaConfig, LlamaForCausalLM, Qwen3Config, Qwen3ForCausalLM

from pipeline.plan.activations import (
    Arithmetic,
    Pass,
    activation_bytes,
    layer_bytes,
    logit_bytes,
    token_bytes,
)
from pipeline.plan.model_shape import Layers
from pipeline.train.packed_rows import Completion, pack
from pipeline.train.policy_pass import PolicyPass

SIZES = Layers(layers=4, hidden=256, query=256, kv=64, mlp=688, vocabulary=512)
PROMPT, SAMPLES, TOKENS = 64, 8, 128


def saved_bytes(model: Any, *, arithmetic: Arithmetic) -> int:
    """Bytes of the storages that a packed pass saves, parameters and their casts left out."""
    model.train()
    policy = PolicyPass(model, temperature=1.0)
    rows = pack(
        [
            Completion(
                prompt=tuple(range(3, 3 + PROMPT)),
                tokens=(5,) * TOKENS,
                logprobs=(0.0,) * TOKENS,
                advantage=1.0,
            )
        ]
        * SAMPLES
    )
    policy(model, rows)  # finds out whether the model takes packed rows
    weights = {tuple(p.shape) for p in model.parameters()}
    weights |= {shape[::-1] for shape in weights}
    held = {p.untyped_storage().data_ptr() for p in model.parameters()}
    sizes: dict[int, int] = {}
    alive = []

    def keep(tensor: torch.Tensor) -> torch.Tensor:
        alive.append(tensor)  # so that no other storage gets its address
        place = tensor.untyped_storage().data_ptr()
        if place not in held and tuple(tensor.shape) not in weights:
            sizes[place] = tensor.untyped_storage().nbytes()
        return tensor

    with (
        torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor),
        torch.autocast("cpu", torch.bfloat16, enabled=arithmetic == "autocast"),
    ):
        policy(model, rows)
    assert policy.packed
    return sum(sizes.values())


def config(kind: Any) -> Any:
    return kind(
        hidden_size=SIZES.hidden,
        num_hidden_layers=SIZES.layers,
        num_attention_heads=4,
        num_key_value_heads=1,
        head_dim=64,
        intermediate_size=SIZES.mlp,
        vocab_size=SIZES.vocabulary,
        tie_word_embeddings=True,
    )


def counted(*, layers: Layers, arithmetic: Arithmetic, recomputed: bool = False) -> float:
    through = Pass(
        tokens=PROMPT - 1 + SAMPLES * TOKENS,
        row_tokens=TOKENS,
        prompt_tokens=PROMPT - 1,
        read_tokens=SAMPLES * TOKENS,
    )
    kept = activation_bytes(layers, arithmetic, through, recomputed=recomputed)
    if recomputed:  # the one layer that is whole is there in the backward pass alone
        kept -= layer_bytes(layers, arithmetic, through)
    probabilities = (
        logit_bytes(layers, arithmetic, through) * 4 / (8 if arithmetic == "float32" else 10)
    )
    return kept + probabilities


@pytest.mark.parametrize("arithmetic", ["float32", "autocast", "bfloat16"])
def test_a_layer_keeps_what_autograd_saves(arithmetic: Arithmetic) -> None:
    torch.manual_seed(0)
    model = LlamaForCausalLM(config(LlamaConfig))
    if arithmetic == "bfloat16":
        model.bfloat16()
    saved = saved_bytes(model, arithmetic=arithmetic)
    assert counted(layers=SIZES, arithmetic=arithmetic) == pytest.approx(saved, rel=0.05)


def test_norms_of_heads_are_counted() -> None:
    torch.manual_seed(0)
    model = Qwen3ForCausalLM(config(Qwen3Config))
    layers = Layers(**{**vars(SIZES), "head_norms": True})
    saved = saved_bytes(model, arithmetic="float32")
    assert counted(layers=layers, arithmetic="float32") == pytest.approx(saved, rel=0.05)


def test_recomputed_layers_keep_their_input() -> None:
    torch.manual_seed(0)
    model = LlamaForCausalLM(config(LlamaConfig))
    model.gradient_checkpointing_enable()
    saved = saved_bytes(model, arithmetic="float32")
    guess = counted(layers=SIZES, arithmetic="float32", recomputed=True)
    assert guess == pytest.approx(saved, rel=0.05)


def test_a_core_is_kept_once_an_iteration() -> None:
    recurrent = Layers(**{**vars(SIZES), "iterated": 2})
    through = Pass(tokens=10, row_tokens=10)
    once = activation_bytes(recurrent, "float32", through)
    twice = activation_bytes(recurrent, "float32", through, iterations=2)
    one = layer_bytes(recurrent, "float32", through)
    assert twice - once == pytest.approx(2 * one)


def test_korthikanti_is_what_a_gpt_layer_would_keep() -> None:
    """34 s b h of section 4 by our terms: q = k = h, an MLP of 4 h."""
    h = 64
    gpt = Layers(layers=1, hidden=h, query=h, kv=h, mlp=4 * h, vocabulary=1)
    ours = token_bytes(gpt, "bfloat16")
    norms = 12 * h - 4 * h  # ours compute in float32, theirs keep their inputs in 16 bits
    mlp = 2 * (4 * 4 * h) - 2 * (
        2 * 4 * h
    )  # gate, SiLU, up, product; theirs: before and after GeLU
    output = 2 * h  # ours is copied once more on its way to the projection
    masks = 2 * h  # of dropout after attention and MLP
    theirs = 34 * h
    assert ours - norms - mlp - output + masks == theirs


def test_tiles_hold_little() -> None:
    through = Pass(tokens=100_000, row_tokens=100)
    whole = Pass(tokens=100_000, row_tokens=100, read_tokens=100_000)
    assert logit_bytes(SIZES, "float32", through) < logit_bytes(SIZES, "float32", whole) / 50
