"""The models in GGUF files, de-quantised."""

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
    PreTrainedModel,
    PreTrainedTokenizerBase,
)
from transformers.integrations.gguf import GGUF_CONFIG_ARCHS
from transformers.modeling_gguf_pytorch_utils import (
    TENSOR_PROCESSORS,
    LlamaTensorProcessor,
    TensorProcessor,
    get_gguf_hf_weights_map,
)

from pipeline.models.gguf_tokenizer import gguf_tokenizer, place_of
from pipeline.models.model_folder import reading

ONE_BY_ONE = (TensorProcessor, LlamaTensorProcessor)
"""transformers' readers that make one of a model's tensors of one of the file's."""


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
    where = place_of(file)
    with reading(str(file)):
        config = AutoConfig.from_pretrained(**where)
        tokenizer = gguf_tokenizer(file)
        with torch.device("meta"):
            model = AutoModelForCausalLM.from_config(_plain(config), dtype=torch.float32)
        return model, tokenizer, GgufTensors(file, model)


def load_gguf(file: Path) -> tuple[PreTrainedModel, PreTrainedTokenizerBase]:
    """The model of a GGUF file, de-quantised as a whole, and its tokenizer; the model forgets that
    it ever was quantised. Raises ModelError as `open_gguf` does."""
    with reading(str(file)):
        stored = AutoModelForCausalLM.from_pretrained(**place_of(file), dtype=torch.float32)
        tokenizer = gguf_tokenizer(file)
    fresh = type(stored)(_plain(stored.config))
    fresh.load_state_dict(stored.state_dict())
    fresh.tie_weights()
    return fresh, tokenizer


def _plain(config: Any) -> Any:
    settings = config.to_dict()
    settings.pop("quantization_config", None)
    return type(config).from_dict(settings)
