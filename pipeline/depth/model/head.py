"""The halting head as tensors in files: alone, and in a model's folder.

Names are those of a checkpoint of the whole model, so that an engine takes a head as it takes any
weights.
"""

import json
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from torch import Tensor

from pipeline.artifacts import whole_file
from pipeline.recurrent.config import RecurrentConfig
from pipeline.recurrent.convert.checkpoint import shards_of
from pipeline.recurrent.policy import HaltingPolicy

HALTING = "model.halting."
GATE = "model.exit_gate."


def fresh(config: RecurrentConfig, *, width: int, seed: int) -> HaltingPolicy:
    """A head of `width` hidden units for a model, drawn by `seed`."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return HaltingPolicy(config.hidden_size, width=width, max_iterations=config.max_iterations)


def tensors(head: HaltingPolicy) -> dict[str, Tensor]:
    """The head's weights by checkpoint name, copied to the CPU."""
    return {HALTING + k: v.detach().cpu().clone() for k, v in head.state_dict().items()}


def write_whole(named: Mapping[str, Tensor], path: Path, *, metadata: Any = None) -> None:
    """Write a safetensors file that is whole or absent."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with whole_file(path) as temporary:
        save_file(dict(named), temporary, metadata=metadata)


def load(path: Path) -> dict[str, Tensor]:
    """The head's weights by checkpoint name, in float32, of a head's or state's file or of a
    model folder.

    Raises ValueError where there are none.
    """
    weights: dict[str, Tensor] = {}
    for shard in shards_of(path) if path.is_dir() else [path]:
        with safe_open(shard, "pt") as file:
            for name in file.keys():  # noqa: SIM118  (no mapping, and not iterable)
                if name.startswith(HALTING):
                    weights[name] = file.get_tensor(name).float()
    if not weights:
        raise ValueError(f"{path} holds no halting head ({HALTING}*): train one first")
    return weights


def policy_of(named: Mapping[str, Tensor]) -> HaltingPolicy:
    """The head of these weights, by their checkpoint names."""
    return HaltingPolicy.of({name.removeprefix(HALTING): part for name, part in named.items()})


def with_head(model: Path, out: Path, head: HaltingPolicy) -> Path:
    """Copy a model folder to `out` with this head in its weights and configuration."""
    width = head.state.out_features
    return _with_tensors(model, out, tensors(head), prefix=HALTING, halting_width=width)


def with_gate(model: Path, out: Path, gate: torch.nn.Linear) -> Path:
    """Copy a model folder to `out` with this exit gate [h -> 1]."""
    named = {GATE + k: v.detach().cpu().clone() for k, v in gate.state_dict().items()}
    return _with_tensors(model, out, named, prefix=GATE, exit_gate=True)


def _with_tensors(
    model: Path, out: Path, named: Mapping[str, Tensor], *, prefix: str, **config: Any
) -> Path:
    """The copy: everything carried over, tensors under `prefix` replaced in the last shard."""
    shutil.copytree(model, out, dirs_exist_ok=True)
    settings = json.loads((out / "config.json").read_text())
    (out / "config.json").write_text(json.dumps(settings | config, indent=2) + "\n")
    shards = shards_of(out)
    for shard in shards:
        with safe_open(shard, "pt") as file:
            stale = [k for k in file.keys() if k.startswith(prefix)]  # noqa: SIM118
        if not stale and shard != shards[-1]:
            continue
        weights = {k: v for k, v in load_file(shard).items() if k not in stale}
        save_file(weights | (dict(named) if shard == shards[-1] else {}), shard, {"format": "pt"})
    index = out / "model.safetensors.index.json"
    if index.is_file():
        listed = json.loads(index.read_text())
        places = {k: v for k, v in listed["weight_map"].items() if not k.startswith(prefix)}
        listed["weight_map"] = places | dict.fromkeys(named, shards[-1].name)
        index.write_text(json.dumps(listed, indent=2) + "\n")
    return out
