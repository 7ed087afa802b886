"""How long new weights take to an engine's process: `python -m tests.bench.weight_sync [--json]`.

Random tensors in the shapes of a Llama-type model, tied, through Ray's object store into another
process: in buckets, as a trainer sends them (`s`), and by safetensors bytes and clones (`bytes_s`),
in turn, medians. What the engine does with them then is left out.
"""

import argparse
import json
import statistics
import time
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import ray
import safetensors.torch
import torch
from torch import Tensor

from pipeline.cluster.actors import ServiceClient
from pipeline.cluster.ray_session import FREED_AT_ONCE
from pipeline.generate.engine import Part
from pipeline.generate.weights import BUCKET_BYTES, unpack

TIED = "lm_head"  # to the embedding, and in its bucket


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

    def load_weights(self, packed: Any, *, version: int, part: Part) -> int:
        """Tensors that arrived."""
        return sum(1 for _ in unpack(packed))

    def take_bytes(self, packed: bytes) -> int:
        """The same of safetensors bytes."""
        return len(safetensors.torch.load(packed))


def as_bytes(weights: Mapping[str, Tensor]) -> bytes:
    """safetensors bytes of copies: tied tensors must not share memory there."""
    return safetensors.torch.save({name: tensor.clone() for name, tensor in weights.items()})


class Buckets:
    """`pipeline.generate.client.Weights` of tensors."""

    def __init__(self, weights: Mapping[str, Tensor], *, bucket_bytes: int) -> None:
        self.weights = weights
        self.groups: list[list[str]] = []
        room = 0
        for name, tensor in weights.items():
            size = 0 if name == TIED else tensor.nbytes
            if not self.groups or size > room:
                self.groups.append([])
                room = bucket_bytes
            self.groups[-1].append(name)
            room -= size

    def __len__(self) -> int:
        return len(self.groups)

    def __iter__(self) -> Iterator[dict[str, Tensor]]:
        for names in self.groups:
            yield {name: self.weights[name] for name in names}

    def metadata(self) -> dict[str, Tensor]:
        return {name: tensor.to("meta") for name, tensor in self.weights.items()}


def send_bytes(weights: Mapping[str, Tensor], receiver: Any) -> None:
    """The whole at once."""
    ray.get(receiver.take_bytes.remote(ray.put(as_bytes(weights))))


def seconds(send: Callable[[], Any]) -> float:
    """From tensors here to tensors there."""
    start = time.perf_counter()
    send()
    return time.perf_counter() - start


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--bucket-mib", type=int, default=BUCKET_BYTES // 2**20)
    parser.add_argument("--json", action="store_true", help="one document on standard output")
    arguments = parser.parse_args()
    (embedding, table), *others = (
        (name, torch.randn(shape))
        for name, shape in shapes(hidden=576, layers=30, mlp=1536, vocabulary=16_664).items()
    )
    weights = {embedding: table, TIED: table, **dict(others)}
    ray.init(
        num_cpus=2,
        include_dashboard=False,
        log_to_driver=False,
        _system_config=dict(FREED_AT_ONCE),
    )
    receiver = Receiver.remote()
    client = ServiceClient(None, [receiver])
    buckets = Buckets(weights, bucket_bytes=arguments.bucket_mib * 2**20)
    times: dict[str, list[float]] = {"s": [], "bytes_s": []}
    for _ in range(arguments.rounds + 1):
        times["s"].append(seconds(lambda: client.push_weights(buckets, version=0)))
        times["bytes_s"].append(seconds(lambda: send_bytes(weights, receiver)))
    medians = {name: statistics.median(values[1:]) for name, values in times.items()}
    size = sum(w.nbytes for name, w in weights.items() if name != TIED)
    document = {"mib": size / 2**20, **medians, "ratio": medians["bytes_s"] / medians["s"]}
    print(json.dumps(document) if arguments.json else document)


if __name__ == "__main__":
    main()
