"""Any model source as one complete Hugging Face folder: config, weights, tokenizer, template.

Every later stage reads such a folder and nothing else. Weights are stored in the source's dtype,
float32 unless the recipe says otherwise.
"""

import shutil
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import torch
from huggingface_hub import snapshot_download
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from pipeline.models.end_tokens import all_ends, named_ends, set_ends
from pipeline.models.gguf_file import load_gguf, open_gguf
from pipeline.models.gguf_tokenizer import find_gguf
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
from pipeline.models.streaming import can_stream, save_streamed, save_tensors
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


@dataclass(frozen=True, kw_only=True)
class StoredModel:
    """A model where it comes from. One that passes by tensors has no data."""

    model: PreTrainedModel
    tokenizer: PreTrainedTokenizerBase
    write: Callable[[PreTrainedModel, Path], None]
    """Its weights to a folder, with a model's configuration and in its dtype."""
    code: Path | None = None
    """The folder of the code that it needs."""


def materialize(source: ModelSource, out: Path, *, seed: int = 0) -> Path:
    """Write the model that ``source`` describes to the folder ``out``, and return ``out``.

    ``seed`` draws the weights of a ``scratch`` model and changes nothing else. Only a model of own
    code, pickled or quantised weights, and GGUF files of families whose tensors are joined from
    several are ever in memory whole; a split is checked by a pass of `passes.load_for_passes`.

    Raises:
        ModelError: the source names something that is absent, incomplete or unreadable, or that
            cannot be converted; the message says what is wrong with which file.
    """
    register()
    folder = _checked_folder(source)
    with tempfile.TemporaryDirectory(prefix="stepwell-model-") as place:
        stored = _stored(source, folder, Path(place), seed=seed)
        ends = named_ends(stored.model)
        if source.split is not None:
            stored = _looped(stored, source, Path(place), split=source.split)
        model = stored.model.to(getattr(torch, source.dtype))
        own_code = stored.code is not None
        _settle(source, model, stored.tokenizer, ends=ends, own_code=own_code)
        stored.write(model, out)
    stored.tokenizer.save_pretrained(out)
    if folder is not None and source.split is None:
        carry_judge(folder, out)
    if stored.code is not None:
        carry_code(stored.code, out)
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


def _stored(source: ModelSource, folder: Path | None, place: Path, *, seed: int) -> StoredModel:
    """The model in its stored dtype, a GGUF file's in float32; `place` is a folder to work in."""
    if source.scratch is not None:
        tokenizer = character_tokenizer()
        return _whole(scratch_model(source.scratch, tokenizer, seed=seed), tokenizer)
    if source.gguf is not None:
        return _from_gguf(find_gguf(source.gguf))
    if folder is None:
        raise ModelError("a model source needs one of path, hub, gguf, scratch")
    config = json_object(folder / "config.json")
    if needs_own_code(config):
        return replace(_whole(*load(str(folder), own_code=True)), code=folder)
    if config.get("model_type") in PUBLISHED:
        with conversion_border():
            convert_published(folder, place / "published")
        return _streamed(place / "published", load_tokenizer_of(folder))
    if not can_stream(folder):
        return _whole(*load(str(folder)))
    return _streamed(folder)


def _whole(model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase) -> StoredModel:
    return StoredModel(
        model=model, tokenizer=tokenizer, write=lambda model, out: model.save_pretrained(out)
    )


def _streamed(folder: Path, tokenizer: PreTrainedTokenizerBase | None = None) -> StoredModel:
    model, useless = load_without_data(folder)
    return StoredModel(
        model=model,
        tokenizer=tokenizer or load_tokenizer_of(folder),
        write=partial(save_streamed, folder=folder, leave_out=useless),
    )


def _from_gguf(file: Path) -> StoredModel:
    model, tokenizer, tensors = open_gguf(file)
    if not tensors.fit:
        return _whole(*load_gguf(file))
    write = partial(save_tensors, shapes=tensors.shapes, read=tensors.read)
    return StoredModel(model=model, tokenizer=tokenizer, write=write)


def _looped(
    stored: StoredModel, source: ModelSource, place: Path, *, split: tuple[int, int, int]
) -> StoredModel:
    """A dense model as the recurrent one that the source asks for."""
    dense, looped = place / "dense", place / "looped"
    stored.write(stored.model, dense)
    with conversion_border():
        convert_dense(
            dense,
            looped,
            split=split,
            tie_iterations=source.tie_iterations,
            copy_core=source.copy_core,
            max_iterations=source.split_iterations,
        )
    shutil.rmtree(dense)
    return _streamed(looped, stored.tokenizer)
