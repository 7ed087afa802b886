"""Weights to engines on GPUs: vLLM's own weight transfer, driven from the trainers' ranks.

By NCCL rank 0 broadcasts to engines on GPUs of their own. By CUDA IPC every rank hands what is
whole on its GPU to the engine that shares it. Written to vllm 0.31.0's source
(distributed/weight_transfer). No GPU has run it yet; on a CPU weights travel through the object
store (`pipeline.generate.weights`).
"""

import gc
import math
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import torch
import torch.distributed as dist
from vllm.distributed.weight_transfer.base import (
    ParamMeta,
    TrainerWeightTransferEngine,
    WeightSource,
)
from vllm.distributed.weight_transfer.ipc_engine import (
    IPCTrainerInitInfo,
    IPCTrainerWeightTransferEngine,
)
from vllm.distributed.weight_transfer.nccl_engine import (
    NCCLTrainerInitInfo,
    NCCLTrainerWeightTransferEngine,
)

from pipeline.generate.client import Weights
from pipeline.generate.weights import BUCKET_BYTES

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


class Sender:
    """One rank's end of the transfer; vLLM's part of it is made at the first push."""

    def __init__(
        self,
        call: Call,
        begin: "Callable[[Sender, TensorSource], TrainerWeightTransferEngine[Any]]",
    ) -> None:
        self._call = call
        self._begin = begin
        self._engine: TrainerWeightTransferEngine[Any] | None = None
        self._version = 0

    def push(self, weights: Weights, *, version: int) -> None:
        """Have every engine hold the weights as this version."""
        self._version = version
        source = TensorSource(weights)
        if self._engine is None:
            self._engine = self._begin(self, source)
        self._engine.source = source
        self._engine.send_weights()

    def init_weight_transfer_engine(self, init_info: dict[str, Any]) -> None:
        """vLLM asks for this and the following three: they go to the engines' workers."""
        self._call("init_weight_transfer_engine", {"init_info": init_info}, self._version)

    def start_weight_update(self) -> None:
        """A round begins."""
        self._call("start_weight_update", {}, self._version)

    def update_weights(self, update_info: Any) -> None:
        """The engines receive; by NCCL beside the trainer's broadcast."""
        self._call("update_weights", {"update_info": update_info}, self._version)

    def finish_weight_update(self, weight_version: str | None = None) -> None:
        """A round ends."""
        self._call("finish_weight_update", {}, self._version)


def by_nccl(call: Call, *, address: str, port: int, engine_ranks: int) -> Sender:
    """Of rank 0, to engines that hold so many GPUs together; they meet at the address."""
    place = NCCLTrainerInitInfo(
        rank=0, master_address=address, master_port=port, world_size=1 + engine_ranks
    )

    def begin(sender: Sender, source: TensorSource) -> NCCLTrainerWeightTransferEngine:
        return NCCLTrainerWeightTransferEngine.trainer_init(place, client=sender, source=source)

    return Sender(call, begin)


def by_ipc(call: Call, *, rank: int) -> Sender:
    """Of any rank, to the engine on its GPU. All ranks push at once, each gathers every tensor."""

    def begin(sender: Sender, source: TensorSource) -> IPCTrainerWeightTransferEngine:
        shared = IPCTrainerInitInfo(
            rank=rank, packed=True, packed_buffer_size_bytes=buffer_bytes(source.metadata())
        )
        return IPCTrainerWeightTransferEngine.trainer_init(shared, client=sender, source=source)

    return Sender(call, begin)


def buffer_bytes(tensors: list[ParamMeta]) -> int:
    """Of the memory through which tensors pass: a bucket, or the largest tensor.

    >>> buffer_bytes([ParamMeta("embed", torch.bfloat16, (2**17, 2**13))]) / 2**30
    2.0
    """
    sizes = [t.dtype.itemsize * math.prod(t.shape) for t in tensors]
    return max([BUCKET_BYTES, *sizes])


def leave_room() -> None:
    """Give back the GPU memory that this process holds and does not use, before an engine that
    shares the GPU wakes; then every rank has."""
    gc.collect()
    torch.cuda.empty_cache()
    if dist.is_initialized():
        dist.barrier()


def for_engine(keywords: Mapping[str, Any], *, engine: int, gpus_per_engine: int) -> dict[str, Any]:
    """The keywords for one engine: by NCCL each has its own place among the ranks, after the
    trainer's.

    >>> info = {"init_info": {"rank_offset": 1, "world_size": 5}}
    >>> for_engine(info, engine=1, gpus_per_engine=2)
    {'init_info': {'rank_offset': 3, 'world_size': 5}}
    """
    if "rank_offset" not in keywords.get("init_info", {}):
        return dict(keywords)
    offset = 1 + engine * gpus_per_engine
    return {"init_info": dict(keywords["init_info"]) | {"rank_offset": offset}}
