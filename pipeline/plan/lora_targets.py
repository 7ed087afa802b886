"""Which of a model's layers an adapter may stand on, from the heads of its files.

Loads no ML library. What files do not tell is found when the model is loaded, in the same words.
"""

import json
import struct
from collections.abc import Collection, Iterator, Mapping
from pathlib import Path
from typing import Any

from pipeline.plan.model_origin import first_source, stored_config
from pipeline.recipe.lora import ALL_LINEAR, Lora
from pipeline.recipe.model_source import PUBLISHED, ModelSource
from pipeline.recipe.recipe_errors import did_you_mean
from pipeline.recipe.schema import Recipe, Stage
from pipeline.recipe.stage_base import Training

BLOCK = ("q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj")
"""Linear layers of a Llama-type layer."""

_LARGEST_HEAD = 100 * 2**20  # bytes; safetensors' own limit


def lora_mistakes(recipe: Recipe, name: str, stage: Stage) -> Iterator[str]:
    """Targets of a stage that its model has no linear layer for."""
    lora = stage.lora if isinstance(stage, Training) else None
    source = None if lora is None else first_source(recipe, name)
    if lora is not None and source is not None and lora.is_later and has_later(source) is False:
        yield f"stages.{name}.lora.{no_later(_called(source))}"
    layers = None if source is None else linear_layers(source)
    if lora is not None and layers:
        model = f"the model of {name}" if source is None else _called(source)
        for mistake in target_mistakes(lora, layers, model=model):
            yield f"stages.{name}.lora.{mistake}"


def target_mistakes(lora: Lora, layers: Collection[str], *, model: str) -> Iterator[str]:
    """Targets that are the end of no layer's name.

    Args:
        layers: names of the model's linear layers, its output head left out.
    """
    ends = sorted({layer.rpartition(".")[2] for layer in layers})
    for target in lora.names:
        if not any(is_target(target, layer) for layer in layers):
            guess = did_you_mean(target, [*ends, ALL_LINEAR])
            yield (
                f"targets: {model} has no linear layer {target!r}{guess} "
                f"(there are {', '.join(ends)}; the output head takes no adapter)"
            )


def no_later(model: str) -> str:
    """The mistake of `later-iterations` where a model has no layers of their own for them."""
    return (
        f"targets: {model} has no layers that only later iterations run; make it with "
        "model.split and model.copy_core: true, or write all-linear"
    )


def has_later(source: ModelSource) -> bool | None:
    """Whether later iterations have layers of their own; None where files here do not say."""
    if source.split is not None:
        return source.copy_core or not source.tie_iterations
    if source.path is None:
        return None if source.hub is not None else False
    config = stored_config(Path(source.path))
    return None if config is None else not config.get("tie_iterations", True)


def is_target(target: str, layer: str) -> bool:
    """Whether a target names a layer: as its whole name, or its last parts."""
    return layer == target or layer.endswith(f".{target}")


def linear_layers(source: ModelSource) -> list[str] | None:
    """Names of a model's linear layers as its files or its shape say; None where neither does."""
    if source.scratch is not None:
        return [*BLOCK] if source.scratch.core is None else [*BLOCK, "adapter"]
    if source.path is None:
        return None
    folder = Path(source.path)
    config = stored_config(folder)
    if config is None or config.get("model_type") in PUBLISHED:
        return None  # converted when it is loaded
    shapes = _shapes(folder)
    text = config.get("text_config")
    words = {**config, **text}.get("vocab_size") if isinstance(text, dict) else None
    vocabulary = words or config.get("vocab_size")
    layers = [
        name.removesuffix(".weight")
        for name, shape in shapes.items()
        if name.endswith(".weight") and len(shape) == 2 and shape[0] != vocabulary
    ]
    looped = source.split is not None and source.tie_iterations
    return [*layers, *(["adapter"] if looped else [])] or None


def _shapes(folder: Path) -> Mapping[str, list[int]]:
    """Shapes of the tensors in a folder's safetensors files; empty where a head cannot be read."""
    shapes: dict[str, list[int]] = {}
    for file in sorted(folder.glob("*.safetensors")):
        shapes |= {
            name: list(entry["shape"])
            for name, entry in _head(file).items()
            if isinstance(entry, dict) and isinstance(entry.get("shape"), list)
        }
    return shapes


def _head(file: Path) -> Mapping[str, Any]:
    """The JSON before the tensors: 8 bytes of its length, then the text."""
    try:
        with file.open("rb") as stream:
            (length,) = struct.unpack("<Q", stream.read(8))
            head = json.loads(stream.read(min(length, _LARGEST_HEAD)))
    except (OSError, ValueError, struct.error):  # files that are not ours; loading says what is
        return {}
    return head if isinstance(head, dict) else {}


def _called(source: ModelSource) -> str:
    if source.scratch is not None:
        return "the scratch model"
    return f"the model in {source.path}" if source.path is not None else f"{source.place}"
