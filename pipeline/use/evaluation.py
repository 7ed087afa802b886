"""A recipe that evaluates one model as another recipe would. Pure."""

from collections.abc import Mapping
from typing import Any

from pydantic import ValidationError

from pipeline.errors import UsageError
from pipeline.recipe.evaluate_stage import EvaluateStage
from pipeline.recipe.model_source import ModelSource
from pipeline.recipe.schema import Recipe

DEPTH_KEYS = ("effort", "budget", "depth")


def evaluation_recipe(
    recipe: Recipe,
    source: Mapping[str, str | bool],
    *,
    asked: Mapping[str, Any],
    engine: str | None = None,
) -> Recipe:
    """The recipe's first evaluate stage, or its depth stage's held-out prompts, on one model.

    Args:
        source: `path` or `hub` of the model, and `trust_remote_code`: never the recipe's own.
        asked: at most one of effort, budget and depth, in place of the stage's own.
        engine: in place of the recipe's.

    Raises ValueError where there is nothing to evaluate on, or a value that no recipe may have.
    """
    name, stage = _stage(recipe)
    content = {key: value for key, value in stage.items() if key not in DEPTH_KEYS or not asked}
    try:
        chosen = EvaluateStage.model_validate({**content, **asked, "models": ["base"]})
        hardware = recipe.hardware
        if engine is not None:
            hardware = type(hardware).model_validate({**hardware.model_dump(), "engine": engine})
    except ValidationError as error:
        raise ValueError(first_reason(error)) from None
    return recipe.model_copy(
        update={
            "name": f"{recipe.name}-eval",
            "model": ModelSource.model_validate({**source, "dtype": recipe.model.dtype}),
            "stages": {name: chosen},
            "hardware": hardware,
        }
    )


def checked_depth(asked: Mapping[str, Any]) -> dict[str, Any]:
    """Those of effort, budget and depth that are not None, as an evaluate stage takes them.

    Raises UsageError for two of them, or a value that no recipe may have.
    """
    given = {key: value for key, value in asked.items() if value is not None}
    content = {"kind": "evaluate", "models": ["base"], "prompts": "", **given}
    try:
        EvaluateStage.model_validate(content)
    except ValidationError as error:
        raise UsageError(first_reason(error)) from None
    return given


def first_reason(error: ValidationError) -> str:
    """The first of a schema's complaints: its key and what is wrong."""
    first = error.errors()[0]
    key = ".".join(str(part) for part in first["loc"])
    reason = first["msg"].removeprefix("Value error, ")
    return f"{key}: {reason}" if key else reason


def _stage(recipe: Recipe) -> tuple[str, Mapping[str, Any]]:
    for name, stage in recipe.stages.items():
        if stage.product == "report" and (content := stage.as_evaluation()) is not None:
            return name, content
    for stage in recipe.stages.values():
        if (content := stage.as_evaluation()) is not None:
            return "report", content
    raise ValueError("the recipe has no evaluate stage; add one: {kind: evaluate, ...}")
