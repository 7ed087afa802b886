"""What each process of a run needs of a machine, and the environment that it starts in."""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import count

import psutil

from pipeline.plan.placement import shares_gpus
from pipeline.recipe.hardware import Hardware

SHARED_GPU = 0.5  # what a trainer and an engine that share a GPU take of it


@dataclass(frozen=True, kw_only=True)
class Place:
    """What one process takes of a bundle, which is what Ray reserves on one node."""

    bundle: int
    cpus: int
    gpus: float


@dataclass(frozen=True, kw_only=True)
class Places:
    """Those of a run's processes."""

    service: Place
    ranks: Sequence[Place]
    engines: Sequence[Place]
    scorer: Place | None

    @property
    def bundles(self) -> list[dict[str, float]]:
        """What to reserve, by index."""
        scorers = [self.scorer] if self.scorer else []
        bundles: dict[int, dict[str, float]] = {}
        for place in (self.service, *self.ranks, *self.engines, *scorers):
            bundle = bundles.setdefault(place.bundle, {})
            for kind, size in (("CPU", place.cpus), ("GPU", place.gpus)):
                if size:
                    bundle[kind] = bundle.get(kind, 0.0) + size
        return list(bundles.values())


def places(hardware: Hardware, *, device: str, scorer: bool) -> Places:
    """Of a run whose placement holds (`pipeline.plan.placement`). A bundle each, but trainers and
    engines that share GPUs are two by two in one."""
    gpu = device == "cuda"
    shared = shares_gpus(hardware, device=device)
    own = SHARED_GPU if shared else float(gpu)
    free = count()
    service = Place(bundle=next(free), cpus=1, gpus=0.0)
    ranks = [
        Place(bundle=next(free), cpus=hardware.rank_threads, gpus=own)
        for _ in range(hardware.ranks)
    ]
    engines = [
        Place(
            bundle=ranks[i].bundle if shared else next(free),
            cpus=hardware.engine_threads,
            gpus=own * hardware.gpus_per_engine,
        )
        for i in range(hardware.engines)
    ]
    reader = Place(bundle=next(free), cpus=hardware.engine_threads, gpus=float(gpu))
    return Places(service=service, ranks=ranks, engines=engines, scorer=reader if scorer else None)


def thread_environment(threads: int, device: str) -> dict[str, str]:
    """Every process gets its own thread count; waiting threads leave the core to others."""
    return {
        "PYTHONSAFEPATH": "1",
        "OMP_NUM_THREADS": str(threads),
        "MKL_NUM_THREADS": str(threads),
        "OMP_WAIT_POLICY": "PASSIVE",
        "GOMP_SPINCOUNT": "0",
        "TOKENIZERS_PARALLELISM": "false",
        "HF_HUB_DISABLE_TELEMETRY": "1",
    } | ({"DS_ACCELERATOR": "cpu", "CUDA_VISIBLE_DEVICES": ""} if device == "cpu" else {})


def rank_environment(rank: int, ranks: int, host: str, port: int) -> dict[str, str]:
    """Where a rank meets the others."""
    return {
        "RANK": str(rank),
        "LOCAL_RANK": "0",  # each actor sees its own device only
        "WORLD_SIZE": str(ranks),
        "MASTER_ADDR": host,
        "MASTER_PORT": str(port),
    }


def interface_of(address: str) -> str | None:
    """The network interface of this machine that has an address; None where none has it. Gloo
    listens at what the machine's name resolves to, often 127.0.0.1, unless it is told of one."""
    for name, addresses in psutil.net_if_addrs().items():
        if any(one.address.partition("%")[0] == address for one in addresses):
            return name
    return None
