"""Weights of one format to weights of ours, tensor by tensor: a few in memory at a time.

Nothing is dropped in silence: a tensor of theirs that has no place, and a parameter of ours that
nothing fills, are errors that name them; a tensor left out on purpose is listed.
"""

import json
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from huggingface_hub.errors import StrictDataclassError
from safetensors import SafetensorError
from torch import Tensor

from ..config import RecurrentConfig
from ..model import RecurrentForCausalLM
from .tensor_files import INDEX, SINGLE, opened

EMBEDDING, HEAD = "model.embed_tokens.weight", "lm_head.weight"
NAMED = 6
"""Tensors that an error names."""


class ConversionError(ValueError):
    """A checkpoint cannot become the model that was asked for; the message says what can."""


@dataclass(frozen=True, kw_only=True)
class CheckpointMap:
    """How a checkpoint becomes a recurrent model."""

    config: RecurrentConfig
    rename: Callable[[str, Tensor], Mapping[str, Tensor] | None]
    """Tensors of ours that one of theirs becomes: {} to leave it out, None for an unknown one."""
    fresh: Mapping[str, Tensor] = field(default_factory=dict)
    """Tensors of ours that have no counterpart; stored in the embedding's dtype."""


class MappedCheckpoint:
    """A checkpoint as tensors of ours: which there are, known from the heads of its files, and the
    tensors themselves, which are read when they are asked for."""

    def __init__(self, folder: Path, mapping: CheckpointMap) -> None:
        """Raises ConversionError when the folder has no safetensors, lacks a shard, or holds what
        does not fit, which it names."""
        self.planned: dict[str, Tensor] = {}
        """Tensors of ours by name, on the device "meta"."""
        self.left_out: list[str] = []
        """Names of theirs that became nothing: dropped layers, buffers, a tied head's copy."""
        self.dtype = torch.float32  # the embedding's, once it was seen
        self._mapping = mapping
        self._shards = shards_of(folder)
        self._sources: dict[str, str] = {}  # theirs, by the name of ours
        self._tied: dict[str, str] = {}  # the same of embedding and head, where they are one
        self._missing = expected_shapes(mapping.config)
        self._problems: list[str] = []
        for name, tensor in _heads(self._shards):
            self._plan(name, tensor)
        for name, tensor in mapping.fresh.items():
            self._place(name, name, tensor.to("meta", self.dtype))
        self._finish()

    def read(self, names: Iterable[str]) -> dict[str, Tensor]:
        """Some tensors of ours."""
        wanted = list(names)
        fresh = {
            name: tensor.to(self.dtype)
            for name, tensor in self._mapping.fresh.items()
            if name in wanted
        }
        sources = dict.fromkeys(self._sources[name] for name in wanted if name not in fresh)
        return {name: t for name, t in self._mapped(sources) if name in wanted} | fresh

    def _mapped(self, sources: Iterable[str]) -> Iterator[tuple[str, Tensor]]:
        """What tensors of theirs become."""
        with opened(self._shards) as stored:
            for name in sources:
                tensors = self._mapping.rename(name, stored[name].get_tensor(name)) or {}
                yield from ((ours, value.contiguous()) for ours, value in tensors.items())

    def _plan(self, name: str, tensor: Tensor) -> None:
        tensors = self._mapping.rename(name, tensor)
        if tensors is None:
            self._problems.append(f"unknown tensor {name} {list(tensor.shape)}")
            return
        if not tensors:
            self.left_out.append(name)
        for ours, value in tensors.items():
            if ours == EMBEDDING:
                self.dtype = value.dtype
            if self._mapping.config.tie_word_embeddings and ours in (EMBEDDING, HEAD):
                self._tied[ours] = name
            if self._mapping.config.tie_word_embeddings and ours == HEAD:
                self.left_out.append(name)
                continue
            self._sources[ours] = name
            self._place(name, ours, value)

    def _place(self, name: str, ours: str, value: Tensor) -> None:
        shape = self._missing.pop(ours, None)
        if shape is None:
            self._problems.append(f"no place for {name}: the model has no free {ours}")
        elif shape != value.shape:
            self._problems.append(
                f"{name} gives {ours} the shape {list(value.shape)}, not {list(shape)}"
            )
        else:
            self.planned[ours] = torch.empty(shape, dtype=value.dtype, device="meta")

    def _finish(self) -> None:
        problems = self._problems + [f"nothing fills {ours}" for ours in self._missing]
        if len(self._tied) == 2 and not torch.equal(*self._ends()):
            problems.append(
                "the config ties the head to the embedding but the two differ: "
                "set tie_word_embeddings (Huginn: tie_embeddings) to false in config.json"
            )
        if problems:
            more = f"; and {len(problems) - NAMED} more" if len(problems) > NAMED else ""
            raise ConversionError("; ".join(problems[:NAMED]) + more)

    def _ends(self) -> tuple[Tensor, Tensor]:
        """Embedding and head, as they are stored."""
        tensors = dict(self._mapped(self._tied.values()))
        return tensors[EMBEDDING], tensors[HEAD]


def config_of(**fields: Any) -> RecurrentConfig:
    """The configuration of these fields. Raises ConversionError where they cannot go together."""
    try:
        return RecurrentConfig(**fields)
    except StrictDataclassError as error:
        reason = str(error).splitlines()[-1].strip()
        raise ConversionError(reason.partition(": ")[2] or reason) from error


def expected_shapes(config: RecurrentConfig) -> dict[str, torch.Size]:
    """Names and shapes of the tensors that a checkpoint of ours stores."""
    with torch.device("meta"):
        model = RecurrentForCausalLM(config)
    shapes = {name: tensor.shape for name, tensor in model.state_dict().items()}
    if config.tie_word_embeddings:
        del shapes[HEAD]
    return shapes


def shards_of(folder: Path) -> list[Path]:
    """The safetensors files of a model folder. Raises ConversionError when there are none."""
    index = folder / INDEX
    names = [SINGLE]
    if index.is_file():
        names = sorted(set(json.loads(index.read_text())["weight_map"].values()))
    for name in names:
        if not (folder / name).is_file():
            raise ConversionError(
                f"{folder} has no {name}; weights of another kind become safetensors by "
                "transformers' save_pretrained"
            )
    return [folder / name for name in names]


def stored_shapes(folder: Path) -> dict[str, tuple[int, ...]]:
    """Names and shapes of a checkpoint's tensors, none of which is read."""
    return {name: tuple(tensor.shape) for name, tensor in _heads(shards_of(folder))}


def _heads(shards: Iterable[Path]) -> Iterator[tuple[str, Tensor]]:
    """Names of a checkpoint's tensors, with their shapes and dtypes on the device "meta"."""
    for shard in shards:
        try:
            with opened([shard]) as stored:
                for name, file in stored.items():
                    part = file.get_slice(name)
                    shape = part.get_shape()
                    few = part[:0] if shape else file.get_tensor(name)
                    yield name, torch.empty(shape, dtype=few.dtype, device="meta")
        except SafetensorError as error:
            raise ConversionError(f"{shard} cannot be read ({error}): copy it again") from error


def load_converted(folder: Path, mapping: CheckpointMap) -> RecurrentForCausalLM:
    """The recurrent model in float32, without writing it anywhere: whole, for many passes."""
    checkpoint = MappedCheckpoint(folder, mapping)
    weights = {name: checkpoint.read([name])[name].float() for name in checkpoint.planned}
    model = RecurrentForCausalLM.from_pretrained(
        None, config=mapping.config, state_dict=weights, dtype=torch.float32
    )
    return model.eval()


def read_settings(folder: Path) -> dict[str, Any]:
    """A model folder's `config.json`. Raises ConversionError when there is none to read."""
    try:
        settings = json.loads((folder / "config.json").read_text())
    except FileNotFoundError:
        raise ConversionError(f"{folder} has no config.json: name a model folder") from None
    except ValueError as error:
        raise ConversionError(f"{folder}/config.json is no JSON: {error}") from error
    if not isinstance(settings, dict):
        raise ConversionError(f"{folder}/config.json must hold an object")
    return settings


def required(settings: Mapping[str, Any], name: str) -> Any:
    """A field of a published `config.json`. Raises ConversionError where it is missing."""
    if settings.get(name) is None:
        raise ConversionError(f"config.json has no {name}, which this format needs")
    return settings[name]


def special_tokens(settings: Mapping[str, Any]) -> dict[str, Any]:
    """The three special tokens of a published `config.json`, as our configuration names them."""
    names = ("pad_token_id", "bos_token_id", "eos_token_id")
    return {name: settings.get(name) for name in names}


def layer_name(name: str, *, prefix: str) -> tuple[int, str] | None:
    """Layer and rest of "PREFIX.N.REST"; None for another name.

    >>> layer_name("model.layers.3.mlp.up_proj.weight", prefix="model.layers")
    (3, 'mlp.up_proj.weight')
    """
    match = re.fullmatch(rf"{re.escape(prefix)}\.(\d+)\.(.+)", name)
    return (int(match[1]), match[2]) if match else None


def layer_place(position: int, split: tuple[int, int, int], *, copy: int = 0) -> str:
    """Where layer `position` of a stack goes by the split, and where in a `copy` of the core.

    >>> layer_place(11, (10, 8, 12)), layer_place(11, (10, 8, 12), copy=1)
    ('model.core.1', 'model.core.9')
    """
    prelude, core, _ = split
    if position < prelude:
        return f"model.prelude.{position}"
    if position < prelude + core:
        return f"model.core.{position - prelude + copy * core}"
    return f"model.coda.{position - prelude - core}"
