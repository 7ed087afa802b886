"""Dense Llama, Qwen2 and Qwen3 checkpoints as recurrent models, equal to them at one iteration, or
at all of them where the core's layers are shared out to iterations.

The names are those of transformers' `modeling_llama`, `modeling_qwen2` and `modeling_qwen3`.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor
from transformers import LlamaConfig, PreTrainedConfig, Qwen2Config, Qwen3Config

from ..config import RecurrentConfig
from ..shape import COPIED_ITERATIONS, DENSE_TYPES, TIED_ITERATIONS
from .checkpoint import (
    EMBEDDING,
    HEAD,
    CheckpointMap,
    ConversionError,
    config_of,
    layer_name,
    layer_place,
)

DenseConfig = LlamaConfig | Qwen2Config | Qwen3Config
DENSE: Mapping[str, type[DenseConfig]] = dict(
    zip(DENSE_TYPES, (LlamaConfig, Qwen2Config, Qwen3Config), strict=True)
)
"""Configurations by `model_type`."""

Split = tuple[int, int, int]
"""Layers of prelude, core and coda."""

GATE = 0.25
"""What the re-entry gate starts at. On SmolLM2-135M with split 10/8/12, untrained, two and four
iterations cost 0.006 and 0.09 nats with 0.25, 0.04 and 0.36 with 0.5, 0.17 and 1.2 with 1."""


def parse_split(text: str) -> Split:
    """Layers of prelude, core and coda from "10/8/12". Raises ConversionError."""
    parts = text.split("/")
    if len(parts) != 3 or not all(part.isdecimal() for part in parts):
        raise ConversionError(f"split {text!r}: write layers of prelude/core/coda, such as 10/8/12")
    prelude, core, coda = map(int, parts)
    if core < 1:
        raise ConversionError(f"split {text!r}: the core needs at least one layer")
    return prelude, core, coda


def show_split(split: Split) -> str:
    """`parse_split`'s inverse."""
    return "/".join(map(str, split))


def map_dense(
    config: DenseConfig,
    *,
    split: Split,
    drop: Sequence[int] = (),
    gate: float = GATE,
    tie_iterations: bool = True,
    copy_core: bool = False,
    num_iterations: int | None = None,
    max_iterations: int | None = None,
) -> CheckpointMap:
    """The mapping of a dense checkpoint by its transformers configuration.

    Tied iterations re-enter the core: the adapter starts as [I, 0], the state alone, damped by
    `gate`; by default 1 of 8 iterations runs. With `copy_core` each of them, 2 by default, runs a
    copy of its own, so that training one leaves the others as they are. Untied ones share out the
    core's layers, by default one each and all of them; nothing is added to the checkpoint.

    Raises:
        ConversionError: a split that does not fit, or a feature that the model lacks.
    """
    if not 0 < gate <= 1:
        raise ConversionError(f"gate={gate} must be over 0 and at most 1")
    if copy_core and not tie_iterations:
        raise ConversionError("copy_core is for tied iterations: untied ones share out the core")
    if copy_core and max_iterations == 1:
        raise ConversionError("copy_core with max_iterations=1 copies nothing: allow 2 or more")
    layers = kept_layers(config, split=split, drop=drop)
    _check(config, layers=layers)
    width = config.hidden_size
    fresh = {
        "model.injection.adapter.weight": torch.eye(width, 2 * width),
        "model.injection.gate": torch.full((width,), gate),
    }
    if tie_iterations:
        iterations = num_iterations or 1
        usual = COPIED_ITERATIONS if copy_core else TIED_ITERATIONS
        deepest = max_iterations or max(usual, iterations)
        kind = {"core_layers": split[1], "injection": "gated", "tie_iterations": not copy_core}
    else:
        fresh = {}
        deepest = untied_iterations(split, max_iterations)
        iterations = num_iterations or deepest
        kind = {
            "core_layers": split[1] // deepest,
            "tie_iterations": False,
            "injection": "none",
            "state_init": "input",
        }
    copies = deepest if copy_core else 1
    ours = _config(config, split=split, num_iterations=iterations, max_iterations=deepest, **kind)

    def rename(name: str, tensor: Tensor) -> Mapping[str, Tensor] | None:
        if name in (EMBEDDING, HEAD, "model.norm.weight"):
            return {name: tensor}
        place = layer_name(name, prefix="model.layers")
        if place is None or place[0] >= config.num_hidden_layers:
            return None
        layer, rest = place
        # checkpoints of old transformers store the rotary frequencies, which the config gives
        if layer not in layers or rest == "self_attn.rotary_emb.inv_freq":
            return {}
        position = layers.index(layer)
        ours = {f"{layer_place(position, split)}.{rest}": tensor}
        for copy in range(1, copies):  # the same name again outside of the core
            ours.setdefault(f"{layer_place(position, split, copy=copy)}.{rest}", tensor.clone())
        return ours

    return CheckpointMap(config=ours, rename=rename, fresh=fresh)


def untied_iterations(split: Split, iterations: int | None) -> int:
    """The iterations that share out the core's layers; by default one a layer.

    Raises ConversionError where they do not get as many layers each.
    """
    core = split[1]
    if iterations is not None and core % iterations:
        raise ConversionError(
            f"{core} core layers of split {show_split(split)} cannot be shared out to "
            f"{iterations} iterations: choose a divisor of {core}, or {core} by leaving it out"
        )
    return iterations or core


def kept_layers(config: PreTrainedConfig, *, split: Split, drop: Sequence[int]) -> list[int]:
    """Layers of the checkpoint that the recurrent model keeps, in order.

    Raises ConversionError when they are not as many as the split says.
    """
    count = config.num_hidden_layers
    if outside := [layer for layer in drop if not 0 <= layer < count]:
        raise ConversionError(f"drop {outside}: the checkpoint has layers 0 to {count - 1}")
    layers = [layer for layer in range(count) if layer not in set(drop)]
    if sum(split) != len(layers):
        less = f" less {count - len(layers)} dropped" if drop else ""
        fix = "say which layers go with drop" if sum(split) < len(layers) else "make it smaller"
        raise ConversionError(
            f"split {show_split(split)} sums to {sum(split)} layers, the checkpoint has "
            f"{count}{less}: {fix}"
        )
    return layers


def _check(config: DenseConfig, *, layers: Sequence[int]) -> None:
    """Refuse what the recurrent model cannot do."""
    rope = config.rope_parameters or {}
    if rope.get("partial_rotary_factor", 1.0) != 1.0:
        raise ConversionError("partial_rotary_factor is not 1: rotary positions turn whole heads")
    if isinstance(config, LlamaConfig):
        return
    types = config.layer_types or []
    window = config.sliding_window
    slides = any(types[layer] == "sliding_attention" for layer in layers)
    if slides and window is not None and window < config.max_position_embeddings:
        raise ConversionError(
            f"sliding-window attention is in force (window {window}) and the recurrent model "
            "attends to everything; for texts shorter than the window, set use_sliding_window to "
            "false and drop layer_types in config.json"
        )


def _config(
    config: DenseConfig, *, split: Split, num_iterations: int, max_iterations: int, **kind: Any
) -> RecurrentConfig:
    prelude, _, coda = split
    qkv, output, mlp, head_dim = _biases(config)
    return config_of(
        vocab_size=config.vocab_size,
        hidden_size=config.hidden_size,
        intermediate_size=config.intermediate_size,
        prelude_layers=prelude,
        coda_layers=coda,
        num_attention_heads=config.num_attention_heads,
        num_key_value_heads=config.num_key_value_heads,
        head_dim=head_dim,
        hidden_act=config.hidden_act,
        max_position_embeddings=config.max_position_embeddings,
        initializer_range=config.initializer_range,
        rms_norm_eps=config.rms_norm_eps,
        rope_parameters=dict(config.rope_parameters or {}),
        qkv_bias=qkv,
        output_bias=output,
        mlp_bias=mlp,
        qk_norm=isinstance(config, Qwen3Config),
        pad_token_id=config.pad_token_id,
        bos_token_id=config.bos_token_id,
        eos_token_id=config.eos_token_id,
        tie_word_embeddings=config.tie_word_embeddings,
        block_style="pre",
        exit_norm=False,
        num_iterations=num_iterations,
        max_iterations=max_iterations,
        **kind,
    )


def _biases(config: DenseConfig) -> tuple[bool, bool, bool, int]:
    """Biases of queries to values, of the attention's output and of the MLP; the head size."""
    default = config.hidden_size // config.num_attention_heads
    if isinstance(config, LlamaConfig):
        attention = config.attention_bias
        return attention, attention, config.mlp_bias, config.head_dim or default
    if isinstance(config, Qwen3Config):
        return config.attention_bias, config.attention_bias, False, config.head_dim
    # Qwen2's head size is no field of its configuration, and a file may state one all the same
    return True, False, False, config.to_dict().get("head_dim") or default
