"""What a plan names that is no mistake: how completions will end, by which reward held-out
accuracy goes, a rate that is meant for others. Loads no ML library."""

from collections.abc import Iterator
from pathlib import Path

from pipeline.models.model_texts import texts_of
from pipeline.models.own_code import code_files
from pipeline.plan.model_origin import stored_config
from pipeline.plan.vocabulary import vocabulary_notes
from pipeline.recipe.grpo_stage import GrpoStage
from pipeline.recipe.model_source import ModelSource
from pipeline.recipe.routing import watched_reward
from pipeline.recipe.schema import Recipe
from pipeline.recipe.stage_base import Training


def notes_of(recipe: Recipe) -> list[str]:
    """Sentences about the recipe's models, each beginning with its key."""
    sources = {"model": recipe.model}
    for name, stage in recipe.stages.items():
        sources |= {f"stages.{name}.{key}": model for key, model in stage.own_models.items()}
    turns = [note for key, source in sources.items() for note in _turn_notes(key, source)]
    code = [_code_note(key, model) for key, model in sources.items() if model.trust_remote_code]
    return [*code, *turns, *vocabulary_notes(recipe), *_watch_notes(recipe), *_rate_notes(recipe)]


def _code_note(key: str, source: ModelSource) -> str:
    """Which code of others a run will run."""
    if source.path is None:
        return f"{key}.trust_remote_code: runs code of {source.hub}: whatever its config.json names"
    names = code_files(Path(source.path), stored_config(Path(source.path)) or {})
    return f"{key}.trust_remote_code: runs code of {source.path}: {', '.join(names)}"


def _rate_notes(recipe: Recipe) -> Iterator[str]:
    """Adapters at a rate that is meant for whole weights."""
    for name, stage in recipe.stages.items():
        if isinstance(stage, Training) and stage.lora and "lr" not in stage.model_fields_set:
            yield (
                f"stages.{name}.lr: {stage.lr:g} is the default for whole weights; adapters want "
                f"about ten times as much: lr: {10 * stage.lr:g}"
            )


def _watch_notes(recipe: Recipe) -> Iterator[str]:
    """Which of several rewards a held-out accuracy goes by, where the recipe leaves it open."""
    for name, stage in recipe.stages.items():
        if not isinstance(stage, GrpoStage) or stage.watch is None or stage.watch.reward:
            continue
        if len(stage.reward_names()) > 1:
            reward = watched_reward(recipe, stage)
            yield (
                f"stages.{name}.watch: held-out accuracy is the share of completions with "
                f"{reward} at 1 or more; watch.reward names another"
            )


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
