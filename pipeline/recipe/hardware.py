"""`hardware:`: what a run may use."""

from typing import Literal

from pydantic import (
    PositiveFloat,
    PositiveInt,
)

from pipeline.recipe.section import Fraction, Strict

Sharding = Literal["none", "zero1", "zero2", "zero3"]


class Hardware(Strict):
    """What the run may use. One default fits a laptop; clusters state their own."""

    device: Literal["auto", "cpu", "cuda"] = "auto"
    ranks: PositiveInt = 1  # trainer processes
    sharding: Sharding = "none"  # DeepSpeed ZeRO stage of the trainer
    threads_per_rank: PositiveInt = 1  # CPU threads of a trainer process
    engines: PositiveInt = 1
    engine: Literal["vllm", "native"] = "vllm"  # native: our reference, recurrent models only
    threads_per_engine: PositiveInt = 1
    gpus_per_engine: PositiveInt = 1  # tensor parallel size, on GPUs
    gpu_memory_fraction: Fraction = 0.85  # of each engine's GPU
    max_sequences_per_engine: PositiveInt = 256
    kv_cache_gib: PositiveFloat = 1.0  # on CPU
    verifier_workers: PositiveInt = 1
    ray_address: str | None = None  # an existing cluster; default: start one here
    dollars_per_gpu_hour: float | None = None
