"""Any model source as one complete Hugging Face folder: config, weights, tokenizer, template.

Every later stage reads such a folder and nothing else. Weights are stored in the source's dtype,
float32 unless the recipe says otherwise.
"""

import json
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
    unreachable,
)
from pipeline.models.own_code import carry_code, needs_own_code
from pipeline.models.scratch_model import character_tokenizer, scratch_model
from pipeline.recipe.model_source import PUBLISHED, ModelSource
from pipeline.recurrent.convert.folder import convert_dense, convert_published
from pipeline.recurrent.register import register

HUB_FILES = ("*.json", "*.safetensors", "*.jinja", "tokenizer*", "LICENSE*")
"""What is downloaded of a checkpoint that is converted."""

CODE_FILES = ("*.py", "pytorch_model*.bin")
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
    model, tokenizer, code = _as_stored(source, seed)
    ends = named_ends(model)
    if source.split is not None:
        model = _looped(model, source, split=source.split)
    if source.chat_template is not None:
        tokenizer.chat_template = source.chat_template
    model = model.to(getattr(torch, source.dtype))
    set_ends(model, tokenizer, all_ends(ends, tokenizer, stop=source.stop))
    if code is None and "auto_map" in vars(model.config):
        del vars(model.config)["auto_map"]  # it names files that do not come along
    out.mkdir(parents=True, exist_ok=True)
    model.save_pretrained(out)
    tokenizer.save_pretrained(out)
    if code is not None:
        carry_code(code, out)
    return out


def downloaded(name: str, *, files: Sequence[str] = HUB_FILES) -> Path:
    """The folder of a hub id's files in the cache. Raises ModelError where it cannot be had."""
    try:
        return Path(snapshot_download(name, allow_patterns=list(files)))
    except (OSError, ValueError) as error:  # the network's and the hub's own errors
        raise unreachable(name, error) from error


def _as_stored(source: ModelSource, seed: int) -> Stored:
    """The model in float32 or its stored dtype, its tokenizer, and the folder of code it needs."""
    if source.scratch is not None:
        tokenizer = character_tokenizer()
        return scratch_model(source.scratch, tokenizer, seed=seed), tokenizer, None
    if source.gguf is not None:
        return *load_gguf(find_gguf(source.gguf)), None
    if source.path is not None:
        return _in_folder(Path(source.path), trusted=source.trust_remote_code)
    if source.hub is not None:
        config = hub_config(source.hub)
        if needs_own_code(config):
            if not source.trust_remote_code:
                check_code(source.hub, config, trusted=False)
            folder = downloaded(source.hub, files=(*HUB_FILES, *CODE_FILES))
            return _in_folder(folder, trusted=True)
        published = config.get("model_type") in PUBLISHED
        return *(_published(downloaded(source.hub)) if published else load(source.hub)), None
    raise ModelError("a model source needs one of path, hub, gguf, scratch")


def _in_folder(folder: Path, *, trusted: bool) -> Stored:
    check_folder(folder, trusted=trusted)
    config = json.loads((folder / "config.json").read_text())
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
