"""Families that vLLM cannot sample from on a CPU: a tiny model of each was tried."""

from collections.abc import Iterator
from pathlib import Path

from pipeline.plan.engine_choice import planned_engines
from pipeline.plan.model_origin import first_source, stored_config
from pipeline.recipe.schema import Recipe, Stage

_STATE = "vLLM's kernels for its recurrent layers do not know float32 on a CPU"
_WEIGHTS = "vLLM on a CPU computes otherwise than the model once it has new weights"
_NONE = "vLLM has no code for it"
CPU_FAULTS = {
    **dict.fromkeys(("mamba", "mamba2", "falcon_mamba", "jamba", "bamba", "minimax"), _STATE),
    **dict.fromkeys(("gpt_oss", "hrm_text", "bloom"), _WEIGHTS),
    **dict.fromkeys(("gpt_neo", "mpt", "xglm", "openai-gpt", "xlnet", "rembert"), _NONE),
}
"""Why, by `model_type`; vLLM 0.31.0."""


def engine_model_mistakes(recipe: Recipe, name: str, stage: Stage, *, device: str) -> Iterator[str]:
    """A stage that samples from a model which its engine cannot run here."""
    source = first_source(recipe, name) if stage.uses_engines and device == "cpu" else None
    if source is None or source.path is None or source.split is not None:
        return
    kind = (stored_config(Path(source.path)) or {}).get("model_type")
    fault = CPU_FAULTS.get(str(kind))
    if fault is not None and "vllm" in planned_engines(recipe, stage, device=device):
        yield (
            f"stages.{name}: {source.path} is a {kind}, which cannot be sampled from here "
            f"({fault}); give a dense model with attention, such as a llama or qwen3"
        )
