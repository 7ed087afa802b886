"""Which model a name of the recipe comes from, and how deep it can run."""

import json
from pathlib import Path
from typing import Any

from pipeline.recipe.model_source import PUBLISHED, ModelSource
from pipeline.recipe.schema import Recipe
from pipeline.recipe.stage_base import BASE

POSITIONS = ("max_position_embeddings", "n_positions", "n_ctx", "max_seq_len", "seq_length")
"""What configurations call the tokens that a model takes."""


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


def runs_own_code(recipe: Recipe, name: str) -> bool:
    """Whether the recipe lets the model of `base` or of a stage run the code that it brings."""
    source = first_source(recipe, name)
    return source is not None and source.trust_remote_code


def positions(source: ModelSource) -> int | None:
    """Tokens that a model takes, prompt and completion together; None where files do not say."""
    if source.scratch is not None:
        return source.scratch.max_position
    config = None if source.path is None else stored_config(Path(source.path))
    if config is None:
        return None
    text = config.get("text_config")
    named = {**config, **text} if isinstance(text, dict) else config
    return next((named[key] for key in POSITIONS if isinstance(named.get(key), int)), None)


def max_iterations(source: ModelSource) -> int | None:
    """The deepest iteration of a model, 0 for a dense one, None where files here do not say."""
    if source.scratch is not None:
        return source.scratch.max_iterations if source.scratch.core is not None else 0
    if source.split is not None:
        return source.split_iterations
    if source.trust_remote_code:
        return 0
    if source.path is None:
        return None if source.gguf is None else 0
    config = stored_config(Path(source.path))
    if config is None:
        return None
    if config.get("model_type") in PUBLISHED:
        return None  # converted when it is loaded
    return config.get("max_iterations", 0)


def stored_config(folder: Path) -> dict[str, Any] | None:
    """The `config.json` of a model folder; None where there is none that holds an object."""
    try:
        config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    except (OSError, ValueError):  # files that are not ours; `checks` says what is wrong
        return None
    return config if isinstance(config, dict) else None
