"""`model.vocabulary: pruned` in a plan: which texts decide what stays, and what cannot be pruned.

Pure; loads no ML library.
"""

import json
from collections.abc import Iterator
from pathlib import Path

from pipeline.models.pruned_tokenizer import refusal
from pipeline.plan.model_origin import first_source
from pipeline.recipe.distill_stage import DistillStage
from pipeline.recipe.schema import Recipe

MARGIN_TOKENS = 4096
"""Of the most frequent tokens, how many stay beside those that texts use (ours)."""


def vocabulary_texts(recipe: Recipe) -> list[tuple[str, str | None]]:
    """Prompts entries, with columns where rows are trained on, whose tokens stay in the base.

    Every entry that a stage reads counts, whichever stages a command runs; none where the base
    keeps its vocabulary.
    """
    if recipe.model.vocabulary == "full":
        return []
    every = [item for stage in recipe.stages.values() for item in stage.inputs()]
    texts = {(item.name, item.column) for item in every if item.name in recipe.prompts}
    return sorted(texts, key=lambda text: (text[0], text[1] or ""))


def is_pruned(recipe: Recipe, model: str) -> bool:
    """Whether a stage's model, or `base`, has the base's pruned vocabulary."""
    return recipe.model.vocabulary == "pruned" and first_source(recipe, model) is recipe.model


def vocabulary_mistakes(recipe: Recipe) -> Iterator[str]:
    """What cannot be pruned, and what cannot be done with a pruned base."""
    for name, stage in recipe.stages.items():
        for key, source in stage.own_models.items():
            if source.vocabulary == "pruned":
                yield (
                    f"stages.{name}.{key}.vocabulary: only the recipe's base can be pruned; leave "
                    "it out here"
                )
        if (
            isinstance(stage, DistillStage)
            and stage.mode == "on_policy"
            and is_pruned(recipe, stage.teacher)
        ):
            yield (
                f"stages.{name}.mode: on_policy compares teacher and student token by token, and "
                f"{stage.teacher} has a pruned vocabulary; write mode: rows, or model.vocabulary: "
                "full"
            )
    reason = _tokenizer_refusal(recipe)
    if reason is not None:
        yield f"model.vocabulary: {reason}; leave vocabulary out"


def vocabulary_notes(recipe: Recipe) -> Iterator[str]:
    if recipe.model.vocabulary == "pruned":
        names = ", ".join(f"{n}.{c}" if c else n for n, c in vocabulary_texts(recipe))
        yield (
            f"model.vocabulary: the run uses the tokens of {names or 'no texts'}, those that spell "
            f"everything else, and the {MARGIN_TOKENS} most frequent; export writes the full "
            "vocabulary again"
        )


def _tokenizer_refusal(recipe: Recipe) -> str | None:
    """Told from a folder's files; of other sources it is told when they are loaded."""
    source = recipe.model
    if source.vocabulary == "full" or source.path is None:
        return None
    file = Path(source.path) / "tokenizer.json"
    try:
        return refusal(json.loads(file.read_text(encoding="utf-8")))
    except (OSError, ValueError):  # absent or broken: told elsewhere
        return None
