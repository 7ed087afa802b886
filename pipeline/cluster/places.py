"""What each process of a run needs of a machine, and the environment that it starts in."""

import psutil

from pipeline.recipe.hardware import Hardware


def places(hardware: Hardware, *, device: str, scorer: bool) -> list[dict[str, float]]:
    """What each process of a run needs, in this order: the service, ranks, engines, the scorer."""
    gpu = device == "cuda"
    rank = _bundle(hardware.rank_threads, gpus=1 if gpu else 0)
    engine = _bundle(hardware.engine_threads, gpus=hardware.gpus_per_engine if gpu else 0)
    reader = _bundle(hardware.engine_threads, gpus=1 if gpu else 0)
    return [
        {"CPU": 1.0},
        *[dict(rank) for _ in range(hardware.ranks)],
        *[dict(engine) for _ in range(hardware.engines)],
        *([reader] if scorer else []),
    ]


def _bundle(cpus: int, *, gpus: int) -> dict[str, float]:
    return {"CPU": float(cpus)} | ({"GPU": float(gpus)} if gpus else {})


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
