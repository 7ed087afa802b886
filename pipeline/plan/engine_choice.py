"""`hardware.engine: auto`: which engine samples from a model, told from its configuration.

A rule, so that a run that is resumed, or repeated elsewhere, has the same engine and bits. Measured
on a CPU (tests/bench/README.md): for recurrent models the native engine has 1.2 to 1.6 times vLLM's
tokens per second at hidden sizes of up to 128 and as many at 256, starts within seconds, and gains
more where tokens leave the core early; above, vLLM is faster. For dense models it is as fast at 576
where completions are long, and several times as fast where they are short, as it reads a prompt
once for all its samples. What else a model asks for, and everything on a GPU, is vLLM's.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

from pipeline.plan.model_origin import first_source, stored_config
from pipeline.plan.placement import shares_gpus
from pipeline.recipe.hardware import Hardware
from pipeline.recipe.model_source import ModelSource
from pipeline.recipe.schema import Recipe, Stage
from pipeline.recipe.stage_base import BASE
from pipeline.recurrent.shape import DENSE_TYPES, MODEL_TYPE

NATIVE_HIDDEN = {MODEL_TYPE: 256, **dict.fromkeys(DENSE_TYPES, 576)}
"""The widest models that the native engine samples from, by `model_type`."""

Choice = Literal["vllm", "native"]

Channel = Literal["store", "nccl", "ipc"]
"""How weights travel from trainers to engines: through Ray's object store, over NCCL to GPUs of
their own, or in the memory of the GPU that both share (CUDA IPC)."""


def engine_for(hardware: Hardware, config: Mapping[str, Any], *, device: str) -> Choice:
    """The engine for a model with this `config.json`."""
    if hardware.engine != "auto":
        return hardware.engine
    kind = str(config.get("model_type"))
    rope = config.get("rope_parameters") or config.get("rope_scaling") or {}
    turns = rope.get("rope_type", rope.get("type", "default"))  # "type": before transformers 5
    native = (
        device == "cpu"
        and config["hidden_size"] <= NATIVE_HIDDEN.get(kind, 0)
        and (kind == MODEL_TYPE or "auto_map" not in config)  # code of its own may do otherwise
        and config.get("kv_planes") is None
        and not config.get("warm_start")
        and not config.get("use_sliding_window")
        and turns not in ("dynamic", "longrope")
        and rope.get("partial_rotary_factor", config.get("partial_rotary_factor", 1.0)) == 1.0
    )
    return "native" if native else "vllm"


def channel_of(hardware: Hardware, *, device: str) -> Channel:
    """How weights travel from trainers to engines."""
    if device != "cuda" or hardware.engine == "native":
        return "store"
    return "ipc" if shares_gpus(hardware, device=device) else "nccl"


def planned_engines(recipe: Recipe, stage: Stage, *, device: str) -> list[str]:
    """The engines of the models that a stage reads, each once; `auto` where files here do not say
    what a model is: then the model decides, and it is in the fingerprint itself."""
    names = [item.name for item in stage.inputs() if item.name in {BASE, *recipe.stages}]
    sources = [source for name in names if (source := first_source(recipe, name)) is not None]
    return sorted({_planned(recipe.hardware, source, device=device) for source in sources})


def first_engine(recipe: Recipe, *, device: str) -> Choice:
    """The engine that a run begins with, as far as files here say."""
    engine = _planned(recipe.hardware, recipe.model, device=device)
    return "native" if engine == "native" else "vllm"


def _planned(hardware: Hardware, source: ModelSource, *, device: str) -> str:
    if hardware.engine != "auto":
        return hardware.engine
    config = _config(source)
    return "auto" if config is None else engine_for(hardware, config, device=device)


def _config(source: ModelSource) -> Mapping[str, Any] | None:
    """What a model's `config.json` will say of what matters here; None where nothing here tells."""
    if source.scratch is not None:
        kind = "llama" if source.scratch.core is None else MODEL_TYPE
        return {"model_type": kind, "hidden_size": source.scratch.hidden}
    config = None if source.path is None else stored_config(Path(source.path))
    if config is None or "hidden_size" not in config:
        return None
    return {**config, "model_type": MODEL_TYPE} if source.split is not None else config
