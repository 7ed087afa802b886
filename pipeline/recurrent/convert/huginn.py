"""Huginn's checkpoints (arXiv 2502.05171, `model_type: huginn_raven`), by name mapping.

Checked against logits of the published code.
"""

from collections.abc import Mapping
from functools import partial
from typing import Any, Literal

import torch
from torch import Tensor

from ..config import RecurrentConfig
from .checkpoint import (
    EMBEDDING,
    HEAD,
    CheckpointMap,
    ConversionError,
    config_of,
    layer_name,
    required,
    special_tokens,
)

StateInit = Literal["zero", "normal"]

_NORMS = {
    "norm_1.weight": "input_layernorm.weight",
    "norm_2.weight": "attention_out_norm.weight",
    "norm_3.weight": "post_attention_layernorm.weight",
    "norm_4.weight": "mlp_out_norm.weight",
}
_STACKS = {"prelude": "prelude", "core_block": "core", "coda": "coda"}
_ACTIVATIONS = {"SiLU": "silu", "GELU": "gelu", "ReLU": "relu"}
_DEMANDS = {
    "bias": False,
    "block_class_name": "SandwichBlock",
    "norm_class_name": "RMSNorm_llama",
    "mlp_class_name": "GatedMLP",
    "test_time_noise": 0,
}
"""Settings that the mapping relies on; a configuration may leave them unsaid."""


def map_huginn(
    settings: Mapping[str, Any],
    *,
    tensors: Mapping[str, tuple[int, ...]],
    state_init: StateInit | None = None,
    num_iterations: int | None = None,
    max_iterations: int | None = None,
) -> CheckpointMap:
    """The mapping of a Huginn checkpoint by its `config.json` and its tensors' shapes.

    The initial state is zero unless `state_init` says "normal": the published code draws it anew at
    every call, normal with the embedding's standard deviation times its scale and truncated at
    three of them, and zero is the choice with which its logits can be compared. The default depth
    is the mean of training, the deepest twice that and at least 8.

    Raises:
        ConversionError: for a setting that the recurrent model lacks, or a field that is missing.
    """
    _check(settings, state_init)
    heads, width = required(settings, "n_heads"), required(settings, "n_embd")
    kv_heads = settings.get("num_key_value_heads") or heads
    head_dim = settings.get("head_dim") or width // heads
    depth = num_iterations or required(settings, "mean_recurrence")
    bias = settings.get("qk_bias", any(name.endswith("attn.qk_bias") for name in tensors))
    if bias and kv_heads != heads:
        raise ConversionError(
            f"qk_bias with num_key_value_heads={kv_heads} of {heads} heads: the published format "
            "has one bias for both queries and keys, of equal sizes"
        )
    initial = settings.get("init_values") or {}
    std, scale = initial.get("std", (0.4 / width) ** 0.5), initial.get("embed_scale", width**0.5)
    config = config_of(
        vocab_size=_rows(tensors, "transformer.wte.weight"),
        hidden_size=width,
        intermediate_size=required(settings, "intermediate_size"),
        prelude_layers=required(settings, "n_layers_in_prelude"),
        core_layers=required(settings, "n_layers_in_recurrent_block"),
        coda_layers=required(settings, "n_layers_in_coda"),
        num_attention_heads=heads,
        num_key_value_heads=kv_heads,
        head_dim=head_dim,
        hidden_act=_activation(settings),
        max_position_embeddings=settings.get("block_size", 4096),
        initializer_range=std,
        rms_norm_eps=settings.get("norm_eps", 1e-6),
        rope_parameters={"rope_type": "default", "rope_theta": required(settings, "rope_base")},
        qkv_bias=bias,
        tie_word_embeddings=required(settings, "tie_embeddings"),
        embedding_scale=scale,
        block_style="sandwich",
        injection=_injection(settings, tensors),
        state_init=state_init or "zero",
        state_init_std=std * (scale if scale > 0 else 1.0),
        exit_norm=True,
        num_iterations=depth,
        max_iterations=max_iterations or max(2 * depth, 8),
        **special_tokens(settings),
    )
    return CheckpointMap(config=config, rename=partial(_ours, config=config))


def _check(settings: Mapping[str, Any], state_init: StateInit | None) -> None:
    """Refuse what the mapping does not know."""
    for name, demanded in _DEMANDS.items():
        if settings.get(name, demanded) != demanded:
            raise ConversionError(
                f"{name}={settings[name]!r} in config.json: only {demanded!r} can be mapped"
            )
    if settings.get("state_init", "like-init") not in ("like-init", "zero") and not state_init:
        raise ConversionError(
            f"state_init={settings['state_init']!r} is not known: choose --state-init zero or "
            "--state-init normal"
        )


def _ours(name: str, tensor: Tensor, *, config: RecurrentConfig) -> Mapping[str, Tensor] | None:
    plain = {
        "transformer.wte.weight": EMBEDDING,
        "transformer.adapter.weight": "model.injection.adapter.weight",
        "lm_head.weight": HEAD,
    }
    if name in plain:
        return {plain[name]: tensor}
    if name == "transformer.ln_f.weight":  # read after the core and again after the coda
        return {"model.core_norm.weight": tensor, "model.norm.weight": tensor.clone()}
    if name == "freqs_cis":  # the rotary table, which the configuration gives
        return {}
    for stack, ours in _STACKS.items():
        place = layer_name(name, prefix=f"transformer.{stack}")
        if place is not None:
            pieces = _block(place[1], tensor, config)
            block = f"model.{ours}.{place[0]}"
            return pieces and {f"{block}.{rest}": piece for rest, piece in pieces.items()}
    return None


def _block(rest: str, tensor: Tensor, config: RecurrentConfig) -> Mapping[str, Tensor] | None:
    """Tensors of one block. Queries, keys and values are one matrix, and so are gate and up; query
    and key biases are one tensor [2, 1, H, D], and ours has a value bias beside them: zeros."""
    heads, kv_heads, size = _heads(config)
    if rest in _NORMS:
        return {_NORMS[rest]: tensor}
    if rest == "attn.proj.weight":
        return {"self_attn.o_proj.weight": tensor}
    if rest == "mlp.proj.weight":
        return {"mlp.down_proj.weight": tensor}
    if rest == "mlp.fc.weight":
        gate, up = (part.clone() for part in tensor.chunk(2))
        return {"mlp.gate_proj.weight": gate, "mlp.up_proj.weight": up}
    if rest == "attn.Wqkv.weight":
        sizes = [heads * size, kv_heads * size, kv_heads * size]
        if tensor.shape[0] != sum(sizes):
            raise ConversionError(f"attn.Wqkv has {tensor.shape[0]} rows, not {sum(sizes)}")
        q, k, v = tensor.split(sizes)
        return {
            "self_attn.q_proj.weight": halves(q, heads=heads),
            "self_attn.k_proj.weight": halves(k, heads=kv_heads),
            "self_attn.v_proj.weight": v.clone(),
        }
    if rest == "attn.qk_bias":
        q, k = tensor.reshape(2, heads * size, 1)
        return {
            "self_attn.q_proj.bias": halves(q, heads=heads)[:, 0],
            "self_attn.k_proj.bias": halves(k, heads=kv_heads)[:, 0],
            "self_attn.v_proj.bias": torch.zeros(kv_heads * size, dtype=tensor.dtype),
        }
    return None


def halves(rows: Tensor, *, heads: int) -> Tensor:
    """Rows [heads * D, n] reordered within each head from interleaved rotary pairs (0, 1), (2, 3),
    ... to pairs (j, j + D / 2), which `apply_rotary_pos_emb` turns.

    >>> halves(torch.arange(6)[:, None], heads=1).flatten().tolist()
    [0, 2, 4, 1, 3, 5]
    """
    width = rows.shape[-1]
    return rows.reshape(heads, -1, 2, width).transpose(1, 2).reshape(-1, width).clone()


def _injection(settings: Mapping[str, Any], tensors: Mapping[str, Any]) -> str:
    """An adapter among the tensors means a linear injection: the published code for transformers
    builds one whatever `injection_type` says, as far as we know."""
    kind = settings.get("injection_type", "linear")
    if "transformer.adapter.weight" in tensors:
        return "linear"
    if kind != "add":
        raise ConversionError(
            f"injection_type={kind!r} without transformer.adapter.weight: only 'linear' and 'add' "
            "can be mapped"
        )
    return "add"


def _activation(settings: Mapping[str, Any]) -> str:
    name = settings.get("nonlin_name", "SiLU")
    if name not in _ACTIVATIONS:
        raise ConversionError(
            f"nonlin_name={name!r} in config.json: only {', '.join(_ACTIVATIONS)} are known"
        )
    return _ACTIVATIONS[name]


def _heads(config: RecurrentConfig) -> tuple[int, int, int]:
    """Query heads, KV heads and the head size, which the configuration always knows."""
    assert config.num_key_value_heads is not None
    assert config.head_dim is not None
    return config.num_attention_heads, config.num_key_value_heads, config.head_dim


def _rows(tensors: Mapping[str, tuple[int, ...]], name: str) -> int:
    """The vocabulary, padded as the embedding is: its rows decide, not a field."""
    if name not in tensors:
        raise ConversionError(f"the checkpoint has no {name}")
    return tensors[name][0]
