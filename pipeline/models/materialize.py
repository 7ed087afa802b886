"""Any model source as one complete Hugging Face folder: config, weights, tokenizer, template.

Every later stage reads such a folder and nothing else. Weights are stored in the source's dtype,
float32 unless the recipe says otherwise.
"""

import tempfile
from collections.abc import Sequence
from pathlib import Path

import torch
from huggingface_hub import snapshot_download
from transformers import (
    AutoModelForCausalLM,
    PreTrainedModel,
    PreTrainedTokenizerBase,
)

from pipeline.models.end_tokens import all_ends, named_ends, set_ends
from pipeline.models.gguf_file import find_gguf, load_gguf
from pipeline.models.model_folder import (
    ModelError,
    check_code,
    check_folder,
    conversion_border,
    hub_config,
    load,
    load_tokenizer_of,
    load_without_data,
    unreachable,
)
from pipeline.models.own_code import carry_code, needs_own_code
from pipeline.models.scratch_model import character_tokenizer, scratch_model
from pipeline.models.stored_files import json_object
from pipeline.models.streaming import can_stream, save_streamed
from pipeline.recipe.model_source import PUBLISHED, ModelSource
from pipeline.recurrent.convert.folder import convert_dense, convert_published
from pipeline.recurrent.explore import RIGHT_HEAD, carry_judge
from pipeline.recurrent.register import register

HUB_FILES = ("*.json", "model*.safetensors", "*.jinja", "tokenizer*", "LICENSE*", RIGHT_HEAD)
"""What is downloaded of a checkpoint: its weights once, however many formats it offers."""

PICKLED_FILES = "pytorch_model*.bin"
"""What is downloaded, too, where there are no safetensors."""

CODE_FILES = ("*.py", PICKLED_FILES)
"""What is downloaded, too, of a model that needs code of its own."""

Stored = tuple[PreTrainedModel, PreTrainedTokenizerBase, Path | None]
"""A model, its tokenizer, and the folder of the code that it needs."""


def materialize(source: ModelSource, out: Path, *, seed: int = 0) -> Path:
    """Write the model that ``source`` describes to the folder ``out``, and return ``out``.

    ``seed`` draws the weights of a ``scratch`` model and changes nothing else.

    Raises:
        ModelError: the source names something that is absent, incomplete or unreadable, or that
            cannot be converted; the message says what is wrong with which file.
    """
    register()
    folder = _checked_folder(source)
    if folder is not None and source.split is None and _is_plain(folder):
        dtype = getattr(torch, source.dtype)
        model, tokenizer, useless = load_without_data(folder, dtype=dtype)
        _settle(source, model, tokenizer, ends=named_ends(model))
        save_streamed(model, folder, out, leave_out=useless)
        tokenizer.save_pretrained(out)
        carry_judge(folder, out)
        return out
    model, tokenizer, code = _as_stored(source, folder, seed)
    ends = named_ends(model)
    if source.split is not None:
        model = _looped(model, source, split=source.split)
    model = model.to(getattr(torch, source.dtype))
    _settle(source, model, tokenizer, ends=ends, own_code=code is not None)
    model.save_pretrained(out)
    tokenizer.save_pretrained(out)
    if code is not None:
        carry_code(code, out)
    return out


def _settle(
    source: ModelSource,
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    *,
    ends: Sequence[int],
    own_code: bool = False,
) -> None:
    """What the recipe says of the chat template and of end tokens, beside ``ends``."""
    if source.chat_template is not None:
        tokenizer.chat_template = source.chat_template
    set_ends(model, tokenizer, all_ends(ends, tokenizer, stop=source.stop))
    if not own_code and "auto_map" in vars(model.config):
        del vars(model.config)["auto_map"]  # it names files that do not come along


def downloaded(name: str, *, files: Sequence[str] = HUB_FILES) -> Path:
    """The folder of a hub id's files in the cache. Raises ModelError where it cannot be had."""
    try:
        return Path(snapshot_download(name, allow_patterns=list(files)))
    except (OSError, ValueError) as error:  # the network's and the hub's own errors
        raise unreachable(name, error) from error


def _checked_folder(source: ModelSource) -> Path | None:
    """The folder that holds a checkpoint, downloaded where it is on the hub; None for a model that
    is made from something else."""
    if source.path is not None:
        folder = Path(source.path)
    elif source.hub is not None:
        folder = _from_hub(source.hub, trusted=source.trust_remote_code)
    else:
        return None
    check_folder(folder, trusted=source.trust_remote_code)
    return folder


def _from_hub(name: str, *, trusted: bool) -> Path:
    config = hub_config(name)
    if needs_own_code(config):
        if not trusted:
            check_code(name, config, trusted=False)
        return downloaded(name, files=(*HUB_FILES, *CODE_FILES))
    folder = downloaded(name)
    if any(folder.glob("model*.safetensors")):
        return folder
    return downloaded(name, files=(*HUB_FILES, PICKLED_FILES))


def _is_plain(folder: Path) -> bool:
    """Whether a checkpoint is written again as it is stored: no code of its own, no conversion."""
    config = json_object(folder / "config.json")
    converted = config.get("model_type") in PUBLISHED
    return not converted and not needs_own_code(config) and can_stream(folder)


def _as_stored(source: ModelSource, folder: Path | None, seed: int) -> Stored:
    """The model in float32 or its stored dtype, its tokenizer, and the folder of code it needs."""
    if source.scratch is not None:
        tokenizer = character_tokenizer()
        return scratch_model(source.scratch, tokenizer, seed=seed), tokenizer, None
    if source.gguf is not None:
        return *load_gguf(find_gguf(source.gguf)), None
    if folder is None:
        raise ModelError("a model source needs one of path, hub, gguf, scratch")
    config = json_object(folder / "config.json")
    if needs_own_code(config):
        return *load(str(folder), own_code=True), folder
    published = config.get("model_type") in PUBLISHED
    return *(_published(folder) if published else load(str(folder))), None


def _published(folder: Path) -> tuple[PreTrainedModel, PreTrainedTokenizerBase]:
    """Huginn's or Ouro's checkpoint, converted to ours."""
    with tempfile.TemporaryDirectory(prefix="stepwell-convert-") as place:
        with conversion_border():
            convert_published(folder, Path(place) / "model")
        model = AutoModelForCausalLM.from_pretrained(Path(place) / "model")
    return model, load_tokenizer_of(folder)


def _looped(
    model: PreTrainedModel, source: ModelSource, *, split: tuple[int, int, int]
) -> PreTrainedModel:
    """A dense model as the recurrent one that the source asks for."""
    with tempfile.TemporaryDirectory(prefix="stepwell-split-") as place:
        dense, looped = Path(place) / "dense", Path(place) / "looped"
        model.save_pretrained(dense)
        with conversion_border():
            convert_dense(
                dense,
                looped,
                split=split,
                tie_iterations=source.tie_iterations,
                max_iterations=source.split_iterations,
            )
        return AutoModelForCausalLM.from_pretrained(looped, dtype=model.dtype)
