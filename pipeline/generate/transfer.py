"""Weights to engines on GPUs: vLLM's own NCCL weight transfer, driven from the trainer's rank 0.

Written to vllm 0.31.0's source (distributed/weight_transfer). No GPU has run it yet; on a CPU
weights travel through the object store (`pipeline.generate.weights`).
"""

from collections.abc import Callable, Iterator, Mapping
from typing import Any

import torch
from vllm.distributed.weight_transfer.base import ParamMeta, WeightSource
from vllm.distributed.weight_transfer.nccl_engine import (
    NCCLTrainerInitInfo,
    NCCLTrainerWeightTransferEngine,
)

from pipeline.generate.client import Weights

Call = Callable[[str, Mapping[str, Any], int], None]
"""Calls a worker method with keywords on every engine, at a weight version, and waits."""


class TensorSource(WeightSource):
    """Full tensors by checkpoint name, moved to the GPU one at a time, of one bucket at a time."""

    def __init__(self, weights: Weights) -> None:
        self._weights = weights

    def metadata(self) -> list[ParamMeta]:
        """What iteration yields."""
        weights = self._weights.metadata()
        return [ParamMeta(name, w.dtype, tuple(w.shape)) for name, w in weights.items()]

    def __iter__(self) -> Iterator[tuple[str, torch.Tensor]]:
        for bucket in self._weights:
            for name, weight in bucket.items():
                yield name, weight.to("cuda")


class NcclSender:
    """One trainer's end of the transfer; its group is made at the first push.

    `engine_ranks` is the number of GPUs that all engines hold together.
    """

    def __init__(self, call: Call, *, address: str, port: int, engine_ranks: int) -> None:
        self._call = call
        self._rendezvous = NCCLTrainerInitInfo(
            rank=0, master_address=address, master_port=port, world_size=1 + engine_ranks
        )
        self._engine: NCCLTrainerWeightTransferEngine | None = None
        self._version = 0

    def push(self, weights: Weights, *, version: int) -> None:
        """Broadcast the weights to every engine as this version."""
        self._version = version
        source = TensorSource(weights)
        if self._engine is None:
            self._engine = NCCLTrainerWeightTransferEngine.trainer_init(
                self._rendezvous, client=self, source=source
            )
        self._engine.source = source
        self._engine.send_weights()

    def init_weight_transfer_engine(self, init_info: dict[str, Any]) -> None:
        """vLLM asks for this and the following three: they go to the engines' workers."""
        self._call("init_weight_transfer_engine", {"init_info": init_info}, self._version)

    def start_weight_update(self) -> None:
        """A round begins."""
        self._call("start_weight_update", {}, self._version)

    def update_weights(self, update_info: Any) -> None:
        """The engines receive; runs beside the trainer's broadcast."""
        self._call("update_weights", {"update_info": update_info}, self._version)

    def finish_weight_update(self, weight_version: str | None = None) -> None:
        """A round ends."""
        self._call("finish_weight_update", {}, self._version)


def for_engine(
    method: str, keywords: Mapping[str, Any], *, engine: int, gpus_per_engine: int
) -> dict[str, Any]:
    """The keywords for one engine: each has its own place among the ranks, after the trainer's.

    >>> info = {"init_info": {"rank_offset": 1, "world_size": 5}}
    >>> for_engine("init_weight_transfer_engine", info, engine=1, gpus_per_engine=2)
    {'init_info': {'rank_offset': 3, 'world_size': 5}}
    """
    if method != "init_weight_transfer_engine":
        return dict(keywords)
    offset = 1 + engine * gpus_per_engine
    return {"init_info": dict(keywords["init_info"]) | {"rank_offset": offset}}
