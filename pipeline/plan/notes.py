"""What a plan names that is no mistake: how completions will end. Loads no ML library."""

from collections.abc import Iterator
from pathlib import Path

from pipeline.models.model_texts import texts_of
from pipeline.recipe.model_source import ModelSource
from pipeline.recipe.schema import Recipe


def notes_of(recipe: Recipe) -> list[str]:
    """Sentences about the recipe's models, each beginning with its key."""
    sources = {"model": recipe.model}
    for name, stage in recipe.stages.items():
        sources |= {f"stages.{name}.{key}": model for key, model in stage.own_models.items()}
    return [note for key, source in sources.items() for note in _turn_notes(key, source)]


def _turn_notes(key: str, source: ModelSource) -> Iterator[str]:
    """A turn end that the model's own end tokens lack. Sources that are not read here say
    nothing."""
    texts = texts_of(Path(source.path)) if source.path is not None else None
    if texts is None:
        return
    end = texts.turn_end(source.chat_template)
    ends = (*texts.ends, *source.stop)
    if not end.text or end.text in ends:
        return
    known = ", ".join(ends) or "none"
    if end.is_token:
        yield (
            f"{key}: the chat template ends a turn with {end.text}, which is none of the model's "
            f"end tokens ({known}); completions and training rows end with it too; "
            f"{key}.stop names others"
        )
    else:
        yield (
            f"{key}: the chat template ends a turn with {end.text!r}, which is no token, so "
            f"completions end with {known} or at max_tokens; name a token that ends them: "
            f"{key}.stop: [TOKEN]"
        )
