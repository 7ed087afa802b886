"""Families that vLLM cannot sample from on a CPU: a tiny model of each was tried."""

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from pipeline.models.known_models import sampled_architectures
from pipeline.plan.engine_choice import planned_engines
from pipeline.plan.model_origin import first_source, max_iterations, stored_config
from pipeline.recipe.model_source import ModelSource
from pipeline.recipe.schema import Recipe, Stage
from pipeline.recurrent.shape import DENSE_TYPES

_STATE = "vLLM's kernels for its recurrent layers do not know float32 on a CPU"
_WEIGHTS = "vLLM on a CPU computes otherwise than the model once it has new weights"
_NONE = "vLLM has no code for it"
_LATENT = "vLLM's attention over latent keys and values does not take its head sizes on a CPU"
_CONVOLUTION = "vLLM's convolution is 4 wide on a CPU, and this family's 3"
CPU_FAULTS = {
    **dict.fromkeys(("mamba", "mamba2", "falcon_mamba", "jamba", "bamba", "minimax"), _STATE),
    **dict.fromkeys(("gpt_oss", "hrm_text", "bloom"), _WEIGHTS),
    **dict.fromkeys(("deepseek_v2", "deepseek_v3"), _LATENT),
    **dict.fromkeys(("lfm2", "lfm2_moe"), _CONVOLUTION),
    **dict.fromkeys(("gpt_neo", "mpt", "xglm", "openai-gpt", "xlnet", "rembert"), _NONE),
}
"""Why, by `model_type`; vLLM 0.31.0."""

RANDOM_EXPERTS = ("phimoe",)
"""Families whose experts are drawn at random in training (SparseMixer; transformers 5.17)."""

SAMPLED = ("init", "policy", "model")
"""Roles of the models that engines sample from, in stages that use engines."""


def engine_model_mistakes(recipe: Recipe, name: str, stage: Stage, *, device: str) -> Iterator[str]:
    """A stage that samples from a model which its engine cannot run here."""
    names = [item.name for item in stage.inputs() if item.role in SAMPLED] * stage.uses_engines
    sources = [first_source(recipe, model) for model in dict.fromkeys(names)]
    if recipe.hardware.engine == "native":
        for model, source in zip(dict.fromkeys(names), sources, strict=True):
            kind = None if source is None else _dense_kind(source)
            if kind not in (None, *DENSE_TYPES):
                yield (
                    f"stages.{name}: the native engine serves recurrent models and dense ones of "
                    f"{', '.join(DENSE_TYPES)}, and {model} is a {kind}; write hardware.engine: "
                    "vllm, or leave it out"
                )
    folders = {s.path: s for s in sources if s is not None and s.path and s.split is None}
    trains = any(item.role == "init" for item in stage.inputs())
    for source in folders.values():
        if trains and _kind(source) in RANDOM_EXPERTS:
            yield (
                f"stages.{name}: {source.path} is a {_kind(source)}, which draws its experts at "
                "random while it trains, so that what is sampled is not what learns; give a model "
                "whose router is a function of the text"
            )
        yield from _source_mistakes(recipe, name, stage, source, device=device)


def _source_mistakes(
    recipe: Recipe, name: str, stage: Stage, source: ModelSource, *, device: str
) -> Iterator[str]:
    assert source.path is not None
    config = stored_config(Path(source.path)) or {}
    if source.trust_remote_code:
        yield from _code_mistakes(name, source.path, config)
    kind = config.get("model_type")
    fault = CPU_FAULTS.get(str(kind)) if device == "cpu" else None
    if fault is not None and "vllm" in planned_engines(recipe, stage, device=device):
        yield (
            f"stages.{name}: {source.path} is a {kind}, which cannot be sampled from here "
            f"({fault}); give a dense model with attention, such as a llama or qwen3"
        )


def _dense_kind(source: ModelSource) -> str | None:
    """The `model_type` of a model that is known to be dense, or code of its own; else None."""
    if source.trust_remote_code:
        return "model of its own code"
    return None if max_iterations(source) != 0 or source.path is None else _kind(source)


def _kind(source: ModelSource) -> str:
    return str((stored_config(Path(str(source.path))) or {}).get("model_type"))


def _code_mistakes(name: str, folder: str, config: Mapping[str, Any]) -> Iterator[str]:
    """A model of code of its own that vLLM has no code for, and transformers' body cannot lend."""
    known = sampled_architectures()
    architectures = config.get("architectures") or []
    lends = "AutoModel" in (config.get("auto_map") or {})
    if known and not lends and not known & set(map(str, architectures)):
        yield (
            f"stages.{name}: {folder} cannot be sampled from: vLLM has no code for "
            f"{', '.join(map(str, architectures)) or 'it'}, and the auto_map of its config.json "
            "names no AutoModel, by which vLLM would run its own; name one there"
        )
