"""Settings of engines for tests and benches: one CPU, float32."""

from typing import Literal

from pipeline.generate.engine import EngineSettings


def cpu_settings(
    *,
    tokens: int,
    sequences: int = 8,
    gib: float = 0.25,
    engine: Literal["vllm", "native"] = "vllm",
) -> EngineSettings:
    """Room for `sequences` of `tokens`, prompts included, and `gib` for keys and values.

    `engine` counts where an engine is chosen by its settings, not where a test names its class.
    """
    return EngineSettings(
        max_model_tokens=tokens,
        max_sequences=sequences,
        device="cpu",
        dtype="float32",
        kv_cache_gib=gib,
        gpus=1,
        gpu_memory_fraction=0.5,
        engine=engine,
    )
