"""Checkpoints of other kinds as folders of the recurrent model: dense, Huginn's, Ouro's.

The destination is a complete model folder: weights in the source's dtype, configuration, the
modelling code, and the source's tokenizer, chat template and generation settings. It appears whole
or not at all.
"""

import os
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import torch
from huggingface_hub.errors import StrictDataclassError
from torch import Tensor, nn
from transformers import GenerationConfig
from transformers.dynamic_module_utils import custom_object_save

from ..config import RecurrentConfig
from ..model import RecurrentForCausalLM
from ..register import register
from .checkpoint import (
    CheckpointMap,
    ConversionError,
    MappedCheckpoint,
    load_converted,
    read_settings,
    stored_shapes,
)
from .dense import DENSE, GATE, DenseConfig, Split, kept_layers, map_dense
from .huginn import StateInit, map_huginn
from .ouro import map_ouro
from .passes import load_for_passes
from .tensor_files import write_tensors

MAX_LOGIT_DIFF = 1e-4
"""The largest difference of any logit, in float32, between a dense model and its conversion."""

HUGINN, OURO = "huginn_raven", "ouro"

CHECKED = (2, 48)
"""Sequences and tokens of the random batch that logits are compared on."""

CARRIED = (
    "tokenizer*",
    "special_tokens_map.json",
    "added_tokens.json",
    "vocab.json",
    "merges.txt",
    "chat_template*",
    "generation_config.json",
    "LICENSE*",
)
"""Files that go along as they are."""


@dataclass(frozen=True, kw_only=True)
class Conversion:
    """What a conversion did."""

    config: RecurrentConfig
    max_logit_diff: float | None  # None: no dense model to compare with
    left_out: tuple[str, ...]
    """Tensors of the source that became nothing: dropped layers, buffers, a tied head's copy."""

    @property
    def split(self) -> Split:
        """Layers of prelude, core and coda."""
        return self.config.prelude_layers, self.config.passed_blocks, self.config.coda_layers


def model_type(source: Path) -> str:
    """The kind of a checkpoint that can be converted.

    Raises ConversionError for a folder of another kind.
    """
    settings = read_settings(source)
    kind = settings.get("model_type")
    if kind not in (*DENSE, HUGINN, OURO):
        raise ConversionError(
            f"{source}: model_type {kind!r} cannot be converted; known are "
            f"{', '.join((*DENSE, HUGINN, OURO))}"
        )
    if settings.get("quantization_config"):
        raise ConversionError(f"{source} is quantised: convert the unquantised checkpoint")
    return str(kind)


def convert_dense(
    source: Path,
    destination: Path,
    *,
    split: Split,
    drop: tuple[int, ...] = (),
    gate: float = GATE,
    tie_iterations: bool = True,
    copy_core: bool = False,
    num_iterations: int | None = None,
    max_iterations: int | None = None,
) -> Conversion:
    """Write a dense checkpoint as a recurrent model that equals it at one iteration, or at
    `max_iterations` where the iterations are not tied; the rest is `map_dense`'s.

    Logits of both are compared in float32 on random tokens before the folder appears; with `drop`,
    the dense model is compared without those layers. Neither is ever in memory whole, unless it is
    small (`passes.RESIDENT_BYTES`).

    Raises:
        ConversionError: what does not fit, a destination that holds something, or logits that
            differ by more than `MAX_LOGIT_DIFF`.
    """
    config = dense_config(source)
    mapping = map_dense(
        config,
        split=split,
        drop=drop,
        gate=gate,
        tie_iterations=tie_iterations,
        copy_core=copy_core,
        num_iterations=num_iterations,
        max_iterations=max_iterations,
    )
    layers = kept_layers(config, split=split, drop=drop)
    return _convert(
        source,
        destination,
        mapping,
        check=lambda folder: max_logit_diff(source, folder, layers=layers),
    )


def convert_published(
    source: Path,
    destination: Path,
    *,
    state_init: StateInit | None = None,
    num_iterations: int | None = None,
    max_iterations: int | None = None,
) -> Conversion:
    """Write a Huginn or Ouro checkpoint as a recurrent model.

    `state_init` replaces Huginn's published initial state, and the numbers what `map_huginn` and
    `map_ouro` take from the configuration. No more than a few tensors are in memory at a time.

    Raises:
        ConversionError: what does not fit, or a destination that holds something.
    """
    settings = read_settings(source)
    if model_type(source) == OURO:
        if state_init is not None:
            raise ConversionError("state_init: Ouro's state starts as the embedding, nothing else")
        mapping = map_ouro(settings, num_iterations=num_iterations, max_iterations=max_iterations)
    else:
        mapping = map_huginn(
            settings,
            tensors=stored_shapes(source),
            state_init=state_init,
            num_iterations=num_iterations,
            max_iterations=max_iterations,
        )
    return _convert(source, destination, mapping, check=None)


def dense_config(source: Path) -> DenseConfig:
    """The configuration of a dense checkpoint that can be converted. Raises ConversionError."""
    kind = model_type(source)
    if kind not in DENSE:
        raise ConversionError(f"{source} is no dense model but {kind}, and has its split already")
    try:
        return DENSE[kind].from_pretrained(source)
    except StrictDataclassError as error:
        reason = str(error).splitlines()[-1].strip()
        raise ConversionError(f"{source}/config.json: {reason}") from error


def load_dense(source: Path) -> RecurrentForCausalLM:
    """A dense checkpoint in float32 as a recurrent model, all layers in its core; the whole of it,
    for the many passes of `influence.measure`."""
    config = dense_config(source)
    return load_converted(source, map_dense(config, split=(0, config.num_hidden_layers, 0)))


def max_logit_diff(source: Path, converted: Path, *, layers: list[int]) -> float:
    """Largest absolute difference of any logit between a dense checkpoint's `layers` and the
    converted model where it equals them, in float32 on random tokens."""
    dense = load_for_passes(source, dtype=torch.float32)
    vocabulary = dense.config.vocab_size
    tokens = torch.randint(vocabulary, CHECKED, generator=torch.Generator().manual_seed(0))
    dense.model.layers = nn.ModuleList(dense.model.layers[layer] for layer in layers)
    dense.config.num_hidden_layers = len(layers)
    expected = _logits(dense, tokens)
    del dense
    ours = load_for_passes(converted, dtype=torch.float32)
    equal = 1 if ours.config.reenters else ours.config.max_iterations
    actual = _logits(ours, tokens, num_iterations=equal)
    return (expected - actual).abs().max().item()


@torch.no_grad()
def _logits(model: Callable[..., object], tokens: Tensor, **keywords: object) -> Tensor:
    return model(tokens, **keywords).logits  # pyright: ignore[reportAttributeAccessIssue]


def check_destination(destination: Path) -> None:
    """Raises ConversionError when the destination is a file or holds something."""
    if destination.exists() and (not destination.is_dir() or any(destination.iterdir())):
        raise ConversionError(f"{destination} exists already: name a new or empty folder")


def _convert(
    source: Path,
    destination: Path,
    mapping: CheckpointMap,
    *,
    check: Callable[[Path], float] | None,
) -> Conversion:
    """Write a mapped checkpoint beside its destination, check it there, move it in place."""
    check_destination(destination)
    destination.parent.mkdir(parents=True, exist_ok=True)
    part = destination.parent / f".{destination.name}.part-{os.getpid()}"
    part.mkdir()
    try:
        checkpoint = MappedCheckpoint(source, mapping)
        write_tensors(checkpoint.planned, part, checkpoint.read)
        _write_rest(source, part, mapping.config, dtype=checkpoint.dtype)
        diff = check(part) if check is not None else None
        if diff is not None and not diff <= MAX_LOGIT_DIFF:
            raise ConversionError(
                f"logits differ by {diff:.2e} from the dense model's, over {MAX_LOGIT_DIFF:.0e}: "
                f"{source} does something that this conversion does not know"
            )
        os.replace(part, destination)
    finally:
        shutil.rmtree(part, ignore_errors=True)
    left_out = tuple(checkpoint.left_out)
    return Conversion(config=mapping.config, max_logit_diff=diff, left_out=left_out)


def _write_rest(source: Path, folder: Path, config: RecurrentConfig, *, dtype: torch.dtype) -> None:
    """Everything but the weights. The modelling code goes along, as `save_pretrained` does it."""
    for pattern in CARRIED:
        for file in source.glob(pattern):
            if file.is_file():
                shutil.copyfile(file, folder / file.name)
    if not (folder / "generation_config.json").is_file():
        GenerationConfig(
            bos_token_id=config.bos_token_id,
            eos_token_id=config.eos_token_id,
            pad_token_id=config.pad_token_id,
        ).save_pretrained(folder)
    register()
    config.dtype = dtype
    config.architectures = [RecurrentForCausalLM.__name__]
    with torch.device("meta"):
        custom_object_save(RecurrentForCausalLM(config), folder, config=config)  # pyright: ignore[reportArgumentType]
    config.save_pretrained(folder)
