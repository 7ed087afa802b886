"""A model that is loaded to talk to, whatever its place: a dense or a recurrent one."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from transformers import PreTrainedModel, PreTrainedTokenizerBase
from transformers.utils.logging import disable_progress_bar

from pipeline.generate.chat import Chat
from pipeline.models.gguf_file import load_gguf
from pipeline.models.gguf_tokenizer import find_gguf
from pipeline.models.model_folder import check_code, check_folder, hub_config, load
from pipeline.models.own_code import needs_own_code
from pipeline.recipe.model_source import PUBLISHED
from pipeline.use.model_place import ModelPlace, NoModel


@dataclass(frozen=True, kw_only=True)
class SpokenModel:
    """A model with the way that its turns are written."""

    place: ModelPlace
    model: Any  # PreTrainedModel, whose `generate` is typed for its own classes alone
    chat: Chat

    @property
    def config(self) -> dict[str, Any]:
        """As its `config.json`."""
        return self.model.config.to_dict()

    @property
    def generation(self) -> dict[str, Any]:
        """As its `generation_config.json`."""
        return self.model.generation_config.to_dict()

    @property
    def positions(self) -> int:
        """Tokens that a conversation has room for."""
        return int(self.config.get("max_position_embeddings") or 2**31)


def spoken_model(place: ModelPlace, *, own_code: bool = False) -> SpokenModel:
    """Load a model: in float32 on a CPU, where half precision is slower, else as it is stored.

    Raises ModelError for files that cannot be loaded, NoModel for a published recurrent checkpoint
    that is not converted yet.
    """
    disable_progress_bar()
    model, tokenizer = _loaded(place, own_code=own_code)
    if torch.cuda.is_available():
        model.to("cuda")  # pyright: ignore[reportArgumentType]
    else:
        model.float()
    return SpokenModel(
        place=place,
        model=model.eval(),
        chat=Chat(tokenizer=tokenizer, ends=_ends(model, tokenizer)),
    )


def _loaded(
    place: ModelPlace, *, own_code: bool
) -> tuple[PreTrainedModel, PreTrainedTokenizerBase]:
    if place.is_gguf:
        return load_gguf(find_gguf(place.name))
    if place.folder is None:
        config = hub_config(place.name)
        if needs_own_code(config):
            check_code(place.name, config, trusted=own_code)
    else:
        check_folder(place.folder, trusted=own_code)
        config = json.loads((Path(place.name) / "config.json").read_text())
    if config.get("model_type") in PUBLISHED:
        raise NoModel(
            f"{place.name} is a published recurrent checkpoint: make it ours first with "
            f"`stepwell convert {place.name} FOLDER`"
        )
    return load(place.name, own_code=own_code and needs_own_code(config))


def _ends(model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase) -> tuple[int, ...]:
    """Every token that ends a completion, by the model's configurations and the tokenizer."""
    settings = model.generation_config
    named = [
        None if settings is None else settings.eos_token_id,
        model.config.eos_token_id,
        tokenizer.eos_token_id,
    ]
    lists = [ids if isinstance(ids, list) else [] if ids is None else [ids] for ids in named]
    return tuple(dict.fromkeys(token for ids in lists for token in ids))
