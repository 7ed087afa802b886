"""Where the files that a recipe names are."""

import importlib.util
import json
from pathlib import Path

from pipeline.recipe.model_source import PUBLISHED, SPLIT_ITERATIONS, ModelSource
from pipeline.recipe.places import resolve_data
from pipeline.recipe.prompt_source import PromptSource
from pipeline.recipe.schema import Recipe
from pipeline.recipe.stage_base import BASE


def source_found(source: PromptSource) -> PromptSource:
    """The source with its file, if it has one, where `resolve_data` finds it."""
    if source.file is None:
        return source
    return source.model_copy(update={"file": str(resolve_data(source.file))})


def model_found(source: ModelSource) -> ModelSource:
    """The source with its folder or file, if it has one, where `resolve_data` finds it."""
    if source.path is not None:
        return source.model_copy(update={"path": str(resolve_data(source.path))})
    if source.gguf is not None:
        return source.model_copy(update={"gguf": str(gguf_files(source.gguf)[0])})
    return source


def max_iterations(source: ModelSource) -> int | None:
    """The deepest iteration of a model, 0 for a dense one, None where files here do not say."""
    if source.scratch is not None:
        return source.scratch.max_iterations if source.scratch.core is not None else 0
    if source.split is not None:
        return source.max_iterations or SPLIT_ITERATIONS
    if source.path is None:
        return None if source.gguf is None else 0
    path = resolve_data(source.path) / "config.json"
    if not path.is_file():
        return None
    config = json.loads(path.read_text())
    if config.get("model_type") in PUBLISHED:
        return None  # converted when it is loaded
    return config.get("max_iterations", 0)


def gguf_files(reference: str) -> list[Path]:
    """GGUF files that a path or `package:NAME` names; no package is imported."""
    package = reference.removeprefix("package:")
    if package == reference:
        path = resolve_data(reference)
        return [path] if path.is_file() else []
    spec = importlib.util.find_spec(package) if package.isidentifier() else None
    folders = spec.submodule_search_locations if spec else None
    return sorted(path for folder in folders or () for path in Path(folder).rglob("*.gguf"))


def first_source(recipe: Recipe, name: str) -> ModelSource | None:
    """Where the weights first came from that `base` is, or that a stage trains, samples or copies.

    None where a name is wrong, or stages wait for each other.
    """
    for _ in range(len(recipe.stages) + 1):
        if name == BASE:
            return recipe.model
        if name not in recipe.stages:
            return None
        start = recipe.stages[name].start
        if isinstance(start, ModelSource):
            return start
        name = start
    return None
