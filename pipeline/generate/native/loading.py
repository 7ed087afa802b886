"""A model folder as the native engine runs it: a recurrent model, or a dense one in its form.

A dense model is the recurrent one whose layers are all prelude but the last, which is a core that
runs once: the same computation, and the same code for both.
"""

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor
from transformers import AutoModelForCausalLM

from pipeline.generate.engine import EngineSettings
from pipeline.recurrent.config import RecurrentConfig
from pipeline.recurrent.convert.checkpoint import load_converted
from pipeline.recurrent.convert.dense import DENSE, map_dense
from pipeline.recurrent.model import RecurrentForCausalLM
from pipeline.recurrent.register import register
from pipeline.recurrent.shape import MODEL_TYPE

DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}


@dataclass(frozen=True, kw_only=True)
class LoadedModel:
    """A model in memory, and where tensors of its checkpoints go."""

    model: RecurrentForCausalLM
    rename: Callable[[str, Tensor], Mapping[str, Tensor] | None] | None = None
    """Of a dense model: tensors here that one of its checkpoint becomes; None: an unknown one."""

    @property
    def dense(self) -> bool:
        """Whether it has no depth to choose."""
        return self.rename is not None

    def places(self, name: str, tensor: Tensor) -> Mapping[str, Tensor]:
        """What a checkpoint's tensor becomes, by the names of the model here."""
        if self.rename is None:
            return {name: tensor}
        renamed = self.rename(name, tensor)
        return {name: tensor} if renamed is None else renamed


def load(folder: Path, settings: EngineSettings) -> LoadedModel:
    """The model of a folder, on the settings' device and in their dtype.

    Raises ValueError for a model or settings that the native engine does not serve.
    """
    kind = json.loads((folder / "config.json").read_text()).get("model_type")
    if kind != MODEL_TYPE and kind not in DENSE:
        raise ValueError(
            f"{folder}: the native engine serves recurrent models (model_type {MODEL_TYPE!r}) and "
            f"dense ones of {', '.join(DENSE)}; this one's is {kind!r}: use the vllm engine"
        )
    if settings.own_code and kind in DENSE:
        raise ValueError(
            f"{folder}: the native engine runs none of a model's own code, and trust_remote_code "
            "is set: use the vllm engine, or leave it out"
        )
    if settings.dtype not in DTYPES:
        raise ValueError(f"dtype={settings.dtype!r} is none of {', '.join(DTYPES)}")
    if settings.gpus > 1:
        raise ValueError(f"gpus={settings.gpus}: the native engine runs on one device; set gpus: 1")
    loaded = _recurrent(folder, settings) if kind == MODEL_TYPE else _dense(folder, kind=kind)
    _check_config(loaded.model.config, folder)
    loaded.model.to(settings.device, DTYPES[settings.dtype]).eval()  # pyright: ignore[reportArgumentType, reportCallIssue]
    return loaded


def _recurrent(folder: Path, settings: EngineSettings) -> LoadedModel:
    register()
    model = AutoModelForCausalLM.from_pretrained(folder, dtype=DTYPES[settings.dtype])
    assert isinstance(model, RecurrentForCausalLM)
    return LoadedModel(model=model)


def _dense(folder: Path, *, kind: str) -> LoadedModel:
    config = DENSE[kind].from_pretrained(folder)
    mapping = map_dense(config, split=(config.num_hidden_layers - 1, 1, 0), tie_iterations=False)
    return LoadedModel(model=load_converted(folder, mapping), rename=mapping.rename)


def _check_config(config: RecurrentConfig, folder: Path) -> None:
    """Refuse options whose result would depend on more than the request."""
    if config.kv_planes is not None:
        raise ValueError(
            f"{folder}: kv_planes={config.kv_planes} shares keys and values between iterations; "
            "the native engine is exact: set kv_planes to null"
        )
    if config.warm_start:
        raise ValueError(f"{folder}: the native engine has no warm start: set warm_start to false")
    rope = (config.rope_parameters or {}).get("rope_type", "default")
    if rope in ("dynamic", "longrope"):
        raise ValueError(
            f"{folder}: rope_type={rope!r} changes rotations as a sequence grows; the native "
            "engine keeps rotated keys: use a static rope_type"
        )
