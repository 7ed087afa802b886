"""`hardware:`: what a run may use."""

from collections.abc import Sequence
from typing import Literal

from pydantic import (
    NonNegativeInt,
    PositiveFloat,
    PositiveInt,
)

from pipeline.recipe.section import Fraction, Strict

Sharding = Literal["none", "zero1", "zero2", "zero3", "fsdp2"]
DEEPSPEED: Sequence[Sharding] = ("zero1", "zero2", "zero3")  # in the order of its stages
LAYERS_SHARED: Sequence[Sharding] = ("zero3", "fsdp2")
Layout = Literal["separate", "colocated"]


class Hardware(Strict):
    """What the run may use. One default fits a laptop; clusters state their own."""

    device: Literal["auto", "cpu", "cuda"] = "auto"
    """`auto`: cuda where an NVIDIA driver is visible."""
    ranks: PositiveInt = 1
    """Trainer processes; on GPUs each has its own."""
    sharding: Sharding = "none"
    """How ranks share a trainer's model: by a stage of DeepSpeed's ZeRO (arXiv 1910.02054), or as
    ZeRO-3 does by torch's own FSDP2 (arXiv 2304.11277)."""
    threads_per_rank: PositiveInt | None = None
    """CPU threads of a trainer process. Default: its share of the cores, of half of them where a
    stage has `ahead: 1` (cores: OMP_NUM_THREADS, else those here, 8 at most); 1 on GPUs and with
    `ray_address`."""
    engines: PositiveInt = 1
    """Inference engines, which share the prompts."""
    engine: Literal["vllm", "native", "auto"] = "vllm"
    """`native`: our reference, for recurrent models, and dense ones of Llama's, Qwen2's and Qwen3's
    kind. `auto`: native on a CPU for hidden sizes of up to 256 (dense ones: 576), where it is as
    fast or faster and starts at once, else vllm."""
    threads_per_engine: PositiveInt | None = None
    """CPU threads of an engine. Default: as `threads_per_rank`, of the engines' share."""
    gpus_per_engine: PositiveInt = 1
    """Tensor parallel size of an engine, on GPUs."""
    layout: Layout = "separate"
    """`colocated`: on GPUs, each trainer shares its own with an engine, which sleeps while it
    trains. On a CPU they take turns in any case."""
    gpu_memory_fraction: Fraction = 0.85
    """Share of the memory of each engine's GPUs that it takes."""
    max_sequences_per_engine: PositiveInt = 256
    """Completions that an engine works on at once."""
    kv_cache_gib: PositiveFloat = 1.0
    """Keys and values of an engine, on CPU."""
    verifier_workers: PositiveInt = 1
    """Processes that compute rewards."""
    restarts: NonNegativeInt = 2
    """How often a launch starts its processes again after one of them died or hung; the work goes
    on from what is on disk, to the same end."""
    nodes: PositiveInt | None = None
    """Machines of a cluster that the run gets. Default: as many as its GPUs need; 1 on CPUs."""
    gpus_per_node: PositiveInt = 8
    """GPUs of each of them. An engine's GPUs lie in one node."""
    gpu_memory_gib: PositiveFloat | None = None
    """Memory of one GPU. Default: what nvidia-smi says of the smallest here, else 80."""
    ray_address: str | None = None
    """An existing Ray cluster; default: one is started here."""
    dollars_per_gpu_hour: float | None = None
    """The plan shows what the run costs."""

    @property
    def shares_layers(self) -> bool:
        """Whether a layer is gathered on all ranks at once, whenever one runs it."""
        return self.ranks > 1 and self.sharding in LAYERS_SHARED

    @property
    def rank_threads(self) -> int:
        """Threads of a trainer process: a plan has filled them in."""
        return self.threads_per_rank or 1

    @property
    def engine_threads(self) -> int:
        """The same of an engine."""
        return self.threads_per_engine or 1
