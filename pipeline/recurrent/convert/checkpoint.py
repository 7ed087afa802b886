"""Weights of one format to weights of ours, tensor by tensor: one shard in memory at a time.

Nothing is dropped in silence: a tensor of theirs that has no place, and a parameter of ours that
nothing fills, are errors that name them; a tensor left out on purpose is listed.
"""

import json
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from huggingface_hub.errors import StrictDataclassError
from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file, save_file
from torch import Tensor

from ..config import RecurrentConfig
from ..model import RecurrentForCausalLM

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


class Walk:
    """One pass over a checkpoint's shards."""

    def __init__(self, folder: Path, mapping: CheckpointMap) -> None:
        """Raises ConversionError when the folder has no safetensors, or lacks a shard."""
        self.shards = shards_of(folder)
        self.mapping = mapping
        self.left_out: list[str] = []
        """Names of theirs that became nothing: dropped layers, buffers, a tied head's copy."""
        self.dtype = torch.float32  # the embedding's, once it was seen
        self._missing = expected_shapes(mapping.config)
        self._tied: dict[str, Tensor] = {}
        self._problems: list[str] = []

    def tensors(self) -> Iterator[dict[str, Tensor]]:
        """Tensors of ours by name, one dictionary per shard of theirs.

        Raises ConversionError at the end, naming what did not fit.
        """
        for index, shard in enumerate(self.shards):
            out: dict[str, Tensor] = {}
            for name, tensor in _read(shard).items():
                out.update(self._take(name, tensor))
            if index == len(self.shards) - 1:
                for name, tensor in self.mapping.fresh.items():
                    out.update(self._place(name, name, tensor.to(self.dtype)))
            yield out
        self._finish()

    def _take(self, name: str, tensor: Tensor) -> dict[str, Tensor]:
        tensors = self.mapping.rename(name, tensor)
        if tensors is None:
            self._problems.append(f"unknown tensor {name} {list(tensor.shape)}")
            return {}
        if not tensors:
            self.left_out.append(name)
        out: dict[str, Tensor] = {}
        for ours, value in tensors.items():
            if ours == EMBEDDING:
                self.dtype = value.dtype
            if self.mapping.config.tie_word_embeddings and ours in (EMBEDDING, HEAD):
                self._tied[ours] = value
            if self.mapping.config.tie_word_embeddings and ours == HEAD:
                self.left_out.append(name)
                continue
            out.update(self._place(name, ours, value))
        return out

    def _place(self, name: str, ours: str, value: Tensor) -> dict[str, Tensor]:
        shape = self._missing.pop(ours, None)
        if shape is None:
            self._problems.append(f"no place for {name}: the model has no free {ours}")
        elif shape != value.shape:
            self._problems.append(
                f"{name} gives {ours} the shape {list(value.shape)}, not {list(shape)}"
            )
        else:
            return {ours: value.contiguous()}
        return {}

    def _finish(self) -> None:
        problems = self._problems + [f"nothing fills {ours}" for ours in self._missing]
        if len(self._tied) == 2 and not torch.equal(self._tied[EMBEDDING], self._tied[HEAD]):
            problems.append(
                "the config ties the head to the embedding but the two differ: "
                "set tie_word_embeddings (Huginn: tie_embeddings) to false in config.json"
            )
        if problems:
            more = f"; and {len(problems) - NAMED} more" if len(problems) > NAMED else ""
            raise ConversionError("; ".join(problems[:NAMED]) + more)


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
    index = folder / "model.safetensors.index.json"
    names = ["model.safetensors"]
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
    shapes = {}
    for shard in shards_of(folder):
        try:
            with safe_open(shard, "pt") as file:
                for name in file.keys():  # noqa: SIM118  (no mapping, and not iterable)
                    shapes[name] = tuple(file.get_slice(name).get_shape())
        except SafetensorError as error:
            raise _unreadable(shard, error) from error
    return shapes


def _read(shard: Path) -> dict[str, Tensor]:
    try:
        return load_file(shard)
    except SafetensorError as error:
        raise _unreadable(shard, error) from error


def _unreadable(shard: Path, error: SafetensorError) -> ConversionError:
    return ConversionError(f"{shard} cannot be read ({error}): copy it again")


def write_weights(walk: Walk, folder: Path) -> None:
    """Write the mapped weights to `folder`, a shard for each of theirs."""
    total = len(walk.shards)
    weight_map: dict[str, str] = {}
    size = 0
    for number, tensors in enumerate(walk.tensors(), start=1):
        name = "model.safetensors"
        if total > 1:
            name = f"model-{number:05}-of-{total:05}.safetensors"
        save_file(tensors, folder / name, metadata={"format": "pt"})
        weight_map.update(dict.fromkeys(tensors, name))
        size += sum(tensor.nbytes for tensor in tensors.values())
    if total > 1:
        index = {"metadata": {"total_size": size}, "weight_map": dict(sorted(weight_map.items()))}
        (folder / "model.safetensors.index.json").write_text(json.dumps(index, indent=2))


def load_converted(folder: Path, mapping: CheckpointMap) -> RecurrentForCausalLM:
    """The recurrent model in float32, without writing it anywhere."""
    weights: dict[str, Tensor] = {}
    for tensors in Walk(folder, mapping).tensors():
        weights.update((name, tensor.float()) for name, tensor in tensors.items())
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


def layer_place(position: int, split: tuple[int, int, int]) -> str:
    """Where layer `position` of a stack goes by the split.

    >>> layer_place(11, (10, 8, 12))
    'model.core.1'
    """
    prelude, core, _ = split
    if position < prelude:
        return f"model.prelude.{position}"
    if position < prelude + core:
        return f"model.core.{position - prelude}"
    return f"model.coda.{position - prelude - core}"
