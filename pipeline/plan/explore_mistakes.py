"""Exploration in latent space where nothing can explore. Loads no ML library."""

from collections.abc import Iterator

from pipeline.plan.engine_choice import planned_engines
from pipeline.plan.model_origin import first_source, max_iterations
from pipeline.recipe.evaluate_stage import EvaluateStage
from pipeline.recipe.schema import Recipe, Stage


def explore_mistakes(recipe: Recipe, name: str, stage: Stage, *, device: str) -> Iterator[str]:
    """An evaluate stage that explores with a dense model, or in vLLM."""
    if not isinstance(stage, EvaluateStage) or stage.explore is None:
        return
    key = f"stages.{name}.explore"
    for model in dict.fromkeys(stage.models):
        source = first_source(recipe, model)
        if source is not None and max_iterations(source) == 0:
            yield (
                f"{key}: {model} is a dense model, which has no latent iterations to explore in; "
                "leave explore or that model out"
            )
            return
    if "vllm" in planned_engines(recipe, stage, device=device):
        yield (
            f"{key}: vLLM runs one path a token; set hardware.engine: native, or leave explore out"
        )
