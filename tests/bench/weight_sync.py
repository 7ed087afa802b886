"""How long new weights take to an engine's process: `python -m tests.bench.weight_sync [--json]`.

Random tensors in the shapes of a Llama-type model, tied, through Ray's object store into another
process: by `pipeline.generate.weights` (`s`), and by safetensors bytes and clones (`bytes_s`), in
turn, medians. What the engine does with them then is left out.
"""

import argparse
import json
import statistics
import time
from collections.abc import Callable, Mapping
from typing import Any

import ray
import safetensors.torch
import torch
from torch import Tensor

from pipeline.generate.weights import pack, unpack


def shapes(hidden: int, layers: int, mlp: int, vocabulary: int) -> dict[str, tuple[int, ...]]:
    """Of a model with a third as many heads for keys and values as for queries."""
    each = {
        "q_proj": (hidden, hidden),
        "k_proj": (hidden // 3, hidden),
        "v_proj": (hidden // 3, hidden),
        "o_proj": (hidden, hidden),
        "gate_proj": (mlp, hidden),
        "up_proj": (mlp, hidden),
        "down_proj": (hidden, mlp),
    }
    blocks = {f"layers.{i}.{name}": shape for i in range(layers) for name, shape in each.items()}
    return {"embed_tokens": (vocabulary, hidden), **blocks}


@ray.remote
class Receiver:
    """The engine's side."""

    def take(self, packed: Any) -> int:
        """Tensors that arrived."""
        return len(unpack(packed))

    def take_bytes(self, packed: bytes) -> int:
        """The same of safetensors bytes."""
        return len(safetensors.torch.load(packed))


def as_bytes(weights: Mapping[str, Tensor]) -> bytes:
    """safetensors bytes of copies: tied tensors must not share memory there."""
    return safetensors.torch.save({name: tensor.clone() for name, tensor in weights.items()})


def seconds(make: Callable[[], Any], take: Any) -> float:
    """From tensors here to tensors there."""
    start = time.perf_counter()
    ray.get(take.remote(ray.put(make())))
    return time.perf_counter() - start


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--json", action="store_true", help="one document on standard output")
    arguments = parser.parse_args()
    weights = {
        name: torch.randn(shape)
        for name, shape in shapes(hidden=576, layers=30, mlp=1536, vocabulary=16_664).items()
    }
    weights["lm_head"] = weights["embed_tokens"]
    ray.init(num_cpus=2, include_dashboard=False, log_to_driver=False)
    receiver = Receiver.remote()
    times: dict[str, list[float]] = {"s": [], "bytes_s": []}
    for _ in range(arguments.rounds + 1):
        times["s"].append(seconds(lambda: pack(weights), receiver.take))
        times["bytes_s"].append(seconds(lambda: as_bytes(weights), receiver.take_bytes))
    medians = {name: statistics.median(values[1:]) for name, values in times.items()}
    size = sum(w.nbytes for name, w in weights.items() if name != "lm_head")
    document = {"mib": size / 2**20, **medians, "ratio": medians["bytes_s"] / medians["s"]}
    print(json.dumps(document) if arguments.json else document)


if __name__ == "__main__":
    main()
