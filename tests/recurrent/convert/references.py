"""Huginn and Ouro written out from their papers, apart from the code under test."""

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from safetensors.torch import load_file
from torch import Tensor

from tests.recurrent.convert.checkpoints import (
    random_checkpoint,
)


def norm(x: Tensor, weight: Tensor, eps: float = 1e-6) -> Tensor:
    return x * torch.rsqrt(x.square().mean(-1, keepdim=True) + eps) * weight


def pairs_turned(x: Tensor, base: float) -> Tensor:
    """Rotary positions on neighbouring channels of [B, T, H, D], as complex numbers."""
    size = x.shape[-1]
    rates = base ** (-torch.arange(0, size, 2).double() / size)
    angle = torch.arange(x.shape[1]).double()[:, None] * rates
    turn = torch.polar(torch.ones_like(angle), angle)[:, None]
    pairs = torch.view_as_complex(x.double().unflatten(-1, (-1, 2)))
    return torch.view_as_real(pairs * turn).flatten(-2).to(x.dtype)


def causal(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    """Attention of [B, T, H, D], written out."""
    scores = torch.einsum("bthd,bshd->bhts", q, k) / math.sqrt(q.shape[-1])
    future = torch.ones(q.shape[1], q.shape[1], dtype=torch.bool).triu(1)
    chance = scores.masked_fill(future, -torch.inf).softmax(-1)
    return torch.einsum("bhts,bshd->bthd", chance, v).flatten(2)


def huginn_block(w: Mapping[str, Tensor], name: str, x: Tensor, settings: dict[str, Any]) -> Tensor:
    heads = settings["n_heads"]
    q, k, v = (
        part.unflatten(-1, (heads, -1))
        for part in (norm(x, w[f"{name}.norm_1.weight"]) @ w[f"{name}.attn.Wqkv.weight"].T).chunk(
            3, dim=-1
        )
    )
    if settings["qk_bias"]:
        q, k = (x + bias for x, bias in zip((q, k), w[f"{name}.attn.qk_bias"], strict=True))
    q, k = (pairs_turned(x, settings["rope_base"]) for x in (q, k))
    x = norm(x + causal(q, k, v) @ w[f"{name}.attn.proj.weight"].T, w[f"{name}.norm_2.weight"])
    gate, up = (norm(x, w[f"{name}.norm_3.weight"]) @ w[f"{name}.mlp.fc.weight"].T).chunk(2, -1)
    mlp = (F.silu(gate) * up) @ w[f"{name}.mlp.proj.weight"].T
    return norm(x + mlp, w[f"{name}.norm_4.weight"])


def huginn_logits(
    w: Mapping[str, Tensor], settings: dict[str, Any], tokens: Tensor, depth: int
) -> Tensor:
    """The published semantics from a zero state, written apart from the code under test."""
    embedded = w["transformer.wte.weight"][tokens] * settings["init_values"]["embed_scale"]
    for layer in range(settings["n_layers_in_prelude"]):
        embedded = huginn_block(w, f"transformer.prelude.{layer}", embedded, settings)
    state = torch.zeros_like(embedded)
    for _ in range(depth):
        if settings["injection_type"] == "add":
            state = state + embedded
        else:
            state = torch.cat((state, embedded), -1) @ w["transformer.adapter.weight"].T
        for layer in range(settings["n_layers_in_recurrent_block"]):
            state = huginn_block(w, f"transformer.core_block.{layer}", state, settings)
    hidden = norm(state, w["transformer.ln_f.weight"])
    for layer in range(settings["n_layers_in_coda"]):
        hidden = huginn_block(w, f"transformer.coda.{layer}", hidden, settings)
    hidden = norm(hidden, w["transformer.ln_f.weight"])
    head = "transformer.wte.weight" if settings["tie_embeddings"] else "lm_head.weight"
    return hidden @ w[head].T


def huginn_checkpoint(
    folder: Path, **changes: Any
) -> tuple[Path, dict[str, Tensor], dict[str, Any]]:
    """A random checkpoint in the published format."""
    settings: dict[str, Any] = {
        "model_type": "huginn_raven", "n_embd": 48, "n_heads": 3, "n_layers_in_prelude": 1,
        "n_layers_in_recurrent_block": 2, "n_layers_in_coda": 3, "mean_recurrence": 3,
        "intermediate_size": 64, "qk_bias": True, "rope_base": 700, "norm_eps": 1e-6,
        "tie_embeddings": True, "injection_type": "linear", "vocab_size": 90,
        "padded_vocab_size": 128, "state_init": "like-init", "block_size": 64,
        "init_values": {"std": 0.2, "embed_scale": 5.0},
    } | changes  # fmt: skip
    width, mlp = settings["n_embd"], settings["intermediate_size"]
    shapes: dict[str, tuple[int, ...]] = {
        "transformer.wte.weight": (128, width),
        "transformer.ln_f.weight": (width,),
    }
    if settings["injection_type"] == "linear":
        shapes["transformer.adapter.weight"] = (width, 2 * width)
    if not settings["tie_embeddings"]:
        shapes["lm_head.weight"] = (128, width)
    stacks = {"prelude": "prelude", "core_block": "recurrent_block", "coda": "coda"}
    for stack, field in stacks.items():
        for layer in range(settings[f"n_layers_in_{field}"]):
            block = f"transformer.{stack}.{layer}"
            shapes |= {f"{block}.norm_{n}.weight": (width,) for n in (1, 2, 3, 4)}
            shapes |= {
                f"{block}.attn.Wqkv.weight": (3 * width, width),
                f"{block}.attn.proj.weight": (width, width),
                f"{block}.mlp.fc.weight": (2 * mlp, width),
                f"{block}.mlp.proj.weight": (width, mlp),
            }
            if settings["qk_bias"]:
                shapes[f"{block}.attn.qk_bias"] = (2, 1, settings["n_heads"], 16)
    return (
        random_checkpoint(folder, shapes, settings),
        load_file(folder / "model.safetensors"),
        settings,
    )


def ouro_checkpoint(folder: Path) -> tuple[Path, dict[str, Tensor], dict[str, Any]]:
    settings: dict[str, Any] = {
        "model_type": "ouro", "vocab_size": 90, "hidden_size": 48, "num_hidden_layers": 2,
        "num_attention_heads": 4, "num_key_value_heads": 2, "head_dim": 12,
        "intermediate_size": 64, "hidden_act": "silu", "max_position_embeddings": 128,
        "rms_norm_eps": 1e-6, "rope_theta": 900.0, "rope_scaling": None, "sliding_window": None,
        "use_sliding_window": False, "tie_word_embeddings": False, "total_ut_steps": 4,
        "early_exit_threshold": 0.9, "eos_token_id": 2, "bos_token_id": 1,
    }  # fmt: skip
    shapes: dict[str, tuple[int, ...]] = {
        "model.embed_tokens.weight": (90, 48),
        "model.norm.weight": (48,),
        "model.early_exit_gate.weight": (1, 48),
        "model.early_exit_gate.bias": (1,),
        "lm_head.weight": (90, 48),
    }
    for layer in range(2):
        block = f"model.layers.{layer}"
        for norm in ("input_layernorm", "post_attention_layernorm"):
            shapes |= {f"{block}.{norm}.weight": (48,), f"{block}.{norm}_2.weight": (48,)}
        for name, rows in {"q": 48, "k": 24, "v": 24, "o": 48}.items():
            shapes[f"{block}.self_attn.{name}_proj.weight"] = (rows, 48)
        shapes |= {f"{block}.mlp.{name}_proj.weight": (64, 48) for name in ("gate", "up")}
        shapes[f"{block}.mlp.down_proj.weight"] = (48, 64)
    random_checkpoint(folder, shapes, settings)
    return folder, load_file(folder / "model.safetensors"), settings


def halves_turned(x: Tensor, base: float) -> Tensor:
    """Rotary positions on channels half a head apart."""
    size = x.shape[-1]
    paired = torch.stack(x.split(size // 2, dim=-1), dim=-1).flatten(-2)
    turned = pairs_turned(paired, base).unflatten(-1, (-1, 2))
    return torch.cat((turned[..., 0], turned[..., 1]), dim=-1)


def ouro_states(w: Mapping[str, Tensor], settings: dict[str, Any], tokens: Tensor) -> list[Tensor]:
    """The normed state after every loop."""
    heads, kv_heads = settings["num_attention_heads"], settings["num_key_value_heads"]
    x, states = w["model.embed_tokens.weight"][tokens], []
    for _ in range(settings["total_ut_steps"]):
        for layer in range(settings["num_hidden_layers"]):

            def weight(name: str, block: str = f"model.layers.{layer}") -> Tensor:
                return w[f"{block}.{name}.weight"]

            n = norm(x, weight("input_layernorm"))
            q = (n @ weight("self_attn.q_proj").T).unflatten(-1, (heads, -1))
            k = (n @ weight("self_attn.k_proj").T).unflatten(-1, (kv_heads, -1))
            v = (n @ weight("self_attn.v_proj").T).unflatten(-1, (kv_heads, -1))
            q, k = (halves_turned(part, settings["rope_theta"]) for part in (q, k))
            k, v = (part.repeat_interleave(heads // kv_heads, dim=2) for part in (k, v))
            out = causal(q, k, v) @ weight("self_attn.o_proj").T
            x = x + norm(out, weight("input_layernorm_2"))
            n = norm(x, weight("post_attention_layernorm"))
            gated = F.silu(n @ weight("mlp.gate_proj").T) * (n @ weight("mlp.up_proj").T)
            out = gated @ weight("mlp.down_proj").T
            x = x + norm(out, weight("post_attention_layernorm_2"))
        x = norm(x, w["model.norm.weight"])
        states.append(x)
    return states
