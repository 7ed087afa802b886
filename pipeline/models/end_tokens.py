"""The tokens that end a completion: all that a source, its chat template and the recipe name."""

from collections.abc import Sequence

from transformers import GenerationConfig, PreTrainedModel, PreTrainedTokenizerBase

from pipeline.models.model_folder import ModelError
from pipeline.models.turn_end import turn_end_in
from pipeline.recipe.recipe_errors import did_you_mean


def named_ends(model: PreTrainedModel) -> list[int]:
    """What a model's `generation_config` and `config` name, each once."""
    settings = model.generation_config
    named: list[int | list[int] | None] = [
        None if settings is None else settings.eos_token_id,
        model.config.eos_token_id,  # pyright: ignore[reportAttributeAccessIssue]
    ]
    ids = [[ends] if isinstance(ends, int) else ends or [] for ends in named]
    return list(dict.fromkeys(end for some in ids for end in some))


def all_ends(
    named: Sequence[int], tokenizer: PreTrainedTokenizerBase, *, stop: Sequence[str]
) -> list[int]:
    """The recipe's `model.stop`, the tokenizer's own, those that the source names, and what the
    chat template ends a turn with, each once.

    Raises ModelError for a text of `stop` that is no token.
    """
    own = tokenizer.eos_token_id
    ends = [*_stops(tokenizer, stop), *([] if own is None else [own]), *named]
    turn_end = turn_end_in(tokenizer, ends=ends)
    if turn_end.is_token:
        ends.append(tokenizer.get_vocab()[turn_end.text])
    return list(dict.fromkeys(ends))


def set_ends(
    model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, ends: Sequence[int]
) -> None:
    """Start, end and padding tokens: the only generation settings that a folder carries."""
    named = ends[0] if len(ends) == 1 else list(ends) or None
    pad = tokenizer.pad_token_id
    if pad is None:
        pad = ends[0] if tokenizer.eos_token_id is None and ends else tokenizer.eos_token_id
    model.config.eos_token_id = named
    model.generation_config = GenerationConfig(
        bos_token_id=tokenizer.bos_token_id, eos_token_id=named, pad_token_id=pad
    )


def _stops(tokenizer: PreTrainedTokenizerBase, stop: Sequence[str]) -> list[int]:
    vocabulary = tokenizer.get_vocab()
    added = [str(token) for token in tokenizer.added_tokens_decoder.values()]
    for text in stop:
        if text not in vocabulary:
            raise ModelError(
                f"model.stop: {text!r} is no single token of the tokenizer, and generation stops "
                f"at tokens{did_you_mean(text, added)}"
            )
    return [vocabulary[text] for text in stop]
