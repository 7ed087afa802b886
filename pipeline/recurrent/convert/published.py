"""Published recurrent checkpoints, Huginn's and Ouro's, by name mapping.

Huginn (arXiv 2502.05171, `model_type: huginn_raven`) was checked against logits of its published
code. Of Ouro (arXiv 2510.25741, `model_type: ouro`) only the format's description was at hand: that
its exit gate reads the normed state of every loop is taken from it.
"""

from collections.abc import Mapping
from typing import Any, Literal

import torch
from torch import Tensor

from ..config import RecurrentConfig
from .checkpoint import EMBEDDING, HEAD, CheckpointMap, ConversionError, config_of, layer_name

StateInit = Literal["zero", "normal"]

_HUGINN_NORMS = {
    "norm_1.weight": "input_layernorm.weight",
    "norm_2.weight": "attention_out_norm.weight",
    "norm_3.weight": "post_attention_layernorm.weight",
    "norm_4.weight": "mlp_out_norm.weight",
}
_HUGINN_STACKS = {"prelude": "prelude", "core_block": "core", "coda": "coda"}
_HUGINN_ACTIVATIONS = {"SiLU": "silu", "GELU": "gelu", "ReLU": "relu"}
_HUGINN_DEMANDS = {
    "bias": False,
    "block_class_name": "SandwichBlock",
    "norm_class_name": "RMSNorm_llama",
    "mlp_class_name": "GatedMLP",
    "test_time_noise": 0,
}
"""Settings that the mapping relies on; a configuration may leave them unsaid."""

_OURO_NORMS = {
    "input_layernorm_2.weight": "attention_out_norm.weight",
    "post_attention_layernorm_2.weight": "mlp_out_norm.weight",
}


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
    for name, demanded in _HUGINN_DEMANDS.items():
        if settings.get(name, demanded) != demanded:
            raise ConversionError(
                f"{name}={settings[name]!r} in config.json: only {demanded!r} can be mapped"
            )
    heads, width = _field(settings, "n_heads"), _field(settings, "n_embd")
    kv_heads = settings.get("num_key_value_heads") or heads
    head_dim = settings.get("head_dim") or width // heads
    depth = num_iterations or _field(settings, "mean_recurrence")
    bias = settings.get("qk_bias", any(name.endswith("attn.qk_bias") for name in tensors))
    if bias and kv_heads != heads:
        raise ConversionError(
            f"qk_bias with num_key_value_heads={kv_heads} of {heads} heads: the published format "
            "has one bias for both queries and keys, of equal sizes"
        )
    std = (settings.get("init_values") or {}).get("std", (0.4 / width) ** 0.5)
    scale = (settings.get("init_values") or {}).get("embed_scale", width**0.5)
    if settings.get("state_init", "like-init") not in ("like-init", "zero") and not state_init:
        raise ConversionError(
            f"state_init={settings['state_init']!r} is not known: choose --state-init zero or "
            "--state-init normal"
        )
    config = config_of(
        vocab_size=_rows(tensors, "transformer.wte.weight"),
        hidden_size=width,
        intermediate_size=_field(settings, "intermediate_size"),
        prelude_layers=_field(settings, "n_layers_in_prelude"),
        core_layers=_field(settings, "n_layers_in_recurrent_block"),
        coda_layers=_field(settings, "n_layers_in_coda"),
        num_attention_heads=heads,
        num_key_value_heads=kv_heads,
        head_dim=head_dim,
        hidden_act=_activation(settings),
        max_position_embeddings=settings.get("block_size", 4096),
        initializer_range=std,
        rms_norm_eps=settings.get("norm_eps", 1e-6),
        rope_parameters={"rope_type": "default", "rope_theta": _field(settings, "rope_base")},
        qkv_bias=bias,
        tie_word_embeddings=_field(settings, "tie_embeddings"),
        embedding_scale=scale,
        block_style="sandwich",
        injection=_injection(settings, tensors),
        state_init=state_init or "zero",
        state_init_std=std * (scale if scale > 0 else 1.0),
        exit_norm=True,
        num_iterations=depth,
        max_iterations=max_iterations or max(2 * depth, 8),
        **_special_tokens(settings),
    )

    def rename(name: str, tensor: Tensor) -> Mapping[str, Tensor] | None:
        return _huginn_tensor(name, tensor, config)

    return CheckpointMap(config=config, rename=rename)


def _huginn_tensor(
    name: str, tensor: Tensor, config: RecurrentConfig
) -> Mapping[str, Tensor] | None:
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
    for stack, ours in _HUGINN_STACKS.items():
        place = layer_name(name, prefix=f"transformer.{stack}")
        if place is not None:
            pieces = _huginn_block(place[1], tensor, config)
            block = f"model.{ours}.{place[0]}"
            return pieces and {f"{block}.{rest}": piece for rest, piece in pieces.items()}
    return None


def _huginn_block(
    rest: str, tensor: Tensor, config: RecurrentConfig
) -> Mapping[str, Tensor] | None:
    """Tensors of one block. Queries, keys and values are one matrix, and so are gate and up; query
    and key biases are one tensor [2, 1, H, D], and ours has a value bias beside them: zeros."""
    heads, kv_heads, size = _heads(config)
    if rest in _HUGINN_NORMS:
        return {_HUGINN_NORMS[rest]: tensor}
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


def map_ouro(
    settings: Mapping[str, Any],
    *,
    num_iterations: int | None = None,
    max_iterations: int | None = None,
) -> CheckpointMap:
    """The mapping of an Ouro checkpoint by its `config.json`.

    `early_exit_threshold` is kept in the configuration under its own name; the deepest iteration
    is the number of loops it was trained with, unless told otherwise.

    Raises:
        ConversionError: for a setting that the recurrent model lacks, or a field that is missing.
    """
    layers, heads = _field(settings, "num_hidden_layers"), _field(settings, "num_attention_heads")
    types = settings.get("layer_types") or []
    if settings.get("use_sliding_window") or "sliding_attention" in types:
        raise ConversionError(
            "sliding-window attention is in force and the recurrent model attends to everything"
        )
    for name in ("attention_bias", "mlp_bias"):
        if settings.get(name):
            raise ConversionError(f"{name}=true in config.json: the published format has no biases")
    depth = num_iterations or _field(settings, "total_ut_steps")
    config = config_of(
        vocab_size=_field(settings, "vocab_size"),
        hidden_size=_field(settings, "hidden_size"),
        intermediate_size=_field(settings, "intermediate_size"),
        prelude_layers=0,
        core_layers=layers,
        coda_layers=0,
        num_attention_heads=heads,
        num_key_value_heads=settings.get("num_key_value_heads") or heads,
        head_dim=settings.get("head_dim"),
        hidden_act=settings.get("hidden_act", "silu"),
        max_position_embeddings=_field(settings, "max_position_embeddings"),
        initializer_range=settings.get("initializer_range", 0.02),
        rms_norm_eps=settings.get("rms_norm_eps", 1e-6),
        rope_parameters=_rope(settings),
        tie_word_embeddings=settings.get("tie_word_embeddings", False),
        block_style="branch",
        injection="none",
        state_init="input",
        iteration_norm=True,
        exit_norm=False,
        final_norm=False,
        exit_gate=True,
        num_iterations=depth,
        max_iterations=max_iterations or max(depth, _field(settings, "total_ut_steps")),
        early_exit_threshold=settings.get("early_exit_threshold"),
        **_special_tokens(settings),
    )
    return CheckpointMap(config=config, rename=_ouro_tensor)


def _ouro_tensor(name: str, tensor: Tensor) -> Mapping[str, Tensor] | None:
    plain = {
        EMBEDDING: EMBEDDING,
        HEAD: HEAD,
        "model.norm.weight": "model.core_norm.weight",
        "model.early_exit_gate.weight": "model.exit_gate.weight",
        "model.early_exit_gate.bias": "model.exit_gate.bias",
    }
    if name in plain:
        return {plain[name]: tensor}
    place = layer_name(name, prefix="model.layers")
    if place is None:
        return None
    layer, rest = place
    if rest == "self_attn.rotary_emb.inv_freq":
        return {}
    return {f"model.core.{layer}.{_OURO_NORMS.get(rest, rest)}": tensor}


def _rope(settings: Mapping[str, Any]) -> dict[str, Any]:
    """Rotary settings in either spelling: `rope_parameters`, or `rope_theta` and `rope_scaling`."""
    rope = dict(settings.get("rope_parameters") or settings.get("rope_scaling") or {})
    rope.setdefault("rope_type", rope.pop("type", "default"))
    rope.setdefault("rope_theta", settings.get("rope_theta", 10000.0))
    if rope.get("partial_rotary_factor", 1.0) != 1.0:
        raise ConversionError("partial_rotary_factor is not 1: rotary positions turn whole heads")
    return rope


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
    if name not in _HUGINN_ACTIVATIONS:
        raise ConversionError(
            f"nonlin_name={name!r} in config.json: only {', '.join(_HUGINN_ACTIVATIONS)} are known"
        )
    return _HUGINN_ACTIVATIONS[name]


def _heads(config: RecurrentConfig) -> tuple[int, int, int]:
    """Query heads, KV heads and the head size, which the configuration always knows."""
    assert config.num_key_value_heads is not None
    assert config.head_dim is not None
    return config.num_attention_heads, config.num_key_value_heads, config.head_dim


def _special_tokens(settings: Mapping[str, Any]) -> dict[str, Any]:
    names = ("pad_token_id", "bos_token_id", "eos_token_id")
    return {name: settings.get(name) for name in names}


def _rows(tensors: Mapping[str, tuple[int, ...]], name: str) -> int:
    """The vocabulary, padded as the embedding is: its rows decide, not a field."""
    if name not in tensors:
        raise ConversionError(f"the checkpoint has no {name}")
    return tensors[name][0]


def _field(settings: Mapping[str, Any], name: str) -> Any:
    if settings.get(name) is None:
        raise ConversionError(f"config.json has no {name}, which this format needs")
    return settings[name]
