"""Any model source as one complete Hugging Face folder: config, weights, tokenizer, template.

Every later stage reads such a folder and nothing else. Weights are stored in the source's dtype,
float32 unless the recipe says otherwise.
"""

import json
import tempfile
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
    check_folder,
    conversion_border,
    hub_model_type,
    load,
    load_tokenizer_of,
    unreachable,
)
from pipeline.models.scratch_model import character_tokenizer, scratch_model
from pipeline.recipe.model_source import PUBLISHED, SPLIT_ITERATIONS, ModelSource
from pipeline.recurrent.convert.folder import convert_dense, convert_published
from pipeline.recurrent.register import register

HUB_FILES = ("*.json", "*.safetensors", "*.jinja", "tokenizer*", "LICENSE*")
"""What is downloaded of a checkpoint that is converted."""


def materialize(source: ModelSource, out: Path, *, seed: int = 0) -> Path:
    """Write the model that ``source`` describes to the folder ``out``, and return ``out``.

    ``seed`` draws the weights of a ``scratch`` model and changes nothing else.

    Raises:
        ModelError: the source names something that is absent, incomplete or unreadable, or that
            cannot be converted; the message says what is wrong with which file.
    """
    register()
    model, tokenizer = _as_stored(source, seed)
    ends = named_ends(model)
    if source.split is not None:
        depth = source.max_iterations or SPLIT_ITERATIONS
        model = _looped(model, source.split, max_iterations=depth)
    if source.chat_template is not None:
        tokenizer.chat_template = source.chat_template
    model = model.to(getattr(torch, source.dtype))
    set_ends(model, tokenizer, all_ends(ends, tokenizer, stop=source.stop))
    out.mkdir(parents=True, exist_ok=True)
    model.save_pretrained(out)
    tokenizer.save_pretrained(out)
    return out


def downloaded(name: str) -> Path:
    """The folder of a hub id's files in the cache. Raises ModelError where it cannot be had."""
    try:
        return Path(snapshot_download(name, allow_patterns=list(HUB_FILES)))
    except (OSError, ValueError) as error:  # the network's and the hub's own errors
        raise unreachable(name, error) from error


def _as_stored(source: ModelSource, seed: int) -> tuple[PreTrainedModel, PreTrainedTokenizerBase]:
    """The model in float32 or its stored dtype, and its tokenizer."""
    if source.scratch is not None:
        tokenizer = character_tokenizer()
        return scratch_model(source.scratch, tokenizer, seed=seed), tokenizer
    if source.gguf is not None:
        return load_gguf(find_gguf(source.gguf))
    if source.path is not None:
        folder = Path(source.path)
        check_folder(folder)
        kind = json.loads((folder / "config.json").read_text()).get("model_type")
        return _published(folder) if kind in PUBLISHED else load(source.path)
    if source.hub is not None:
        kind = hub_model_type(source.hub)
        return _published(downloaded(source.hub)) if kind in PUBLISHED else load(source.hub)
    raise ModelError("a model source needs one of path, hub, gguf, scratch")


def _published(folder: Path) -> tuple[PreTrainedModel, PreTrainedTokenizerBase]:
    """Huginn's or Ouro's checkpoint, converted to ours."""
    with tempfile.TemporaryDirectory(prefix="stepwell-convert-") as place:
        with conversion_border():
            convert_published(folder, Path(place) / "model")
        model = AutoModelForCausalLM.from_pretrained(Path(place) / "model")
    return model, load_tokenizer_of(folder)


def _looped(
    model: PreTrainedModel, split: tuple[int, int, int], *, max_iterations: int
) -> PreTrainedModel:
    """A dense model as a recurrent one, its equal at one iteration."""
    with tempfile.TemporaryDirectory(prefix="stepwell-split-") as place:
        dense, looped = Path(place) / "dense", Path(place) / "looped"
        model.save_pretrained(dense)
        with conversion_border():
            convert_dense(dense, looped, split=split, max_iterations=max_iterations)
        return AutoModelForCausalLM.from_pretrained(looped, dtype=model.dtype)
