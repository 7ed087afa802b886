"""Ouro's checkpoints (arXiv 2510.25741, `model_type: ouro`), by name mapping.

Only the format's description was at hand: that its exit gate reads the normed state of every loop
is taken from it.
"""

from collections.abc import Mapping
from typing import Any

from torch import Tensor

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

_NORMS = {
    "input_layernorm_2.weight": "attention_out_norm.weight",
    "post_attention_layernorm_2.weight": "mlp_out_norm.weight",
}


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
    heads = required(settings, "num_attention_heads")
    types = settings.get("layer_types") or []
    if settings.get("use_sliding_window") or "sliding_attention" in types:
        raise ConversionError(
            "sliding-window attention is in force and the recurrent model attends to everything"
        )
    for name in ("attention_bias", "mlp_bias"):
        if settings.get(name):
            raise ConversionError(f"{name}=true in config.json: the published format has no biases")
    depth = num_iterations or required(settings, "total_ut_steps")
    config = config_of(
        vocab_size=required(settings, "vocab_size"),
        hidden_size=required(settings, "hidden_size"),
        intermediate_size=required(settings, "intermediate_size"),
        prelude_layers=0,
        core_layers=required(settings, "num_hidden_layers"),
        coda_layers=0,
        num_attention_heads=heads,
        num_key_value_heads=settings.get("num_key_value_heads") or heads,
        head_dim=settings.get("head_dim"),
        hidden_act=settings.get("hidden_act", "silu"),
        max_position_embeddings=required(settings, "max_position_embeddings"),
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
        max_iterations=max_iterations or max(depth, required(settings, "total_ut_steps")),
        early_exit_threshold=settings.get("early_exit_threshold"),
        **special_tokens(settings),
    )
    return CheckpointMap(config=config, rename=_ours)


def _ours(name: str, tensor: Tensor) -> Mapping[str, Tensor] | None:
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
    return {f"model.core.{layer}.{_NORMS.get(rest, rest)}": tensor}


def _rope(settings: Mapping[str, Any]) -> dict[str, Any]:
    """Rotary settings in either spelling: `rope_parameters`, or `rope_theta` and `rope_scaling`."""
    rope = dict(settings.get("rope_parameters") or settings.get("rope_scaling") or {})
    rope.setdefault("rope_type", rope.pop("type", "default"))
    rope.setdefault("rope_theta", settings.get("rope_theta", 10000.0))
    if rope.get("partial_rotary_factor", 1.0) != 1.0:
        raise ConversionError("partial_rotary_factor is not 1: rotary positions turn whole heads")
    return rope
