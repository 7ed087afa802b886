"""What the native engine makes of shallow tokens, and its speed beside `model.generate`.

Run it: `python tests/bench/depth_native.py`. Figures are ratios of runs that alternate in one
process, so that a machine's other load falls on both sides; times are both of the wall and of the
processor, which is what a machine that does other work still measures well.
"""

import argparse
import json
import statistics
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch

from pipeline.generate.engine import EngineSettings
from pipeline.generate.native_engine import NativeEngine
from pipeline.records import Request, Rollout
from pipeline.recurrent.config import RecurrentConfig
from pipeline.recurrent.model import RecurrentForCausalLM
from pipeline.recurrent.request import DepthRequest

SEQUENCES, PROMPT_TOKENS, TOKENS = 64, 16, 64
SIZES = {"tiny": 64, "wide": 256}  # hidden size
HEAD_DIM = 32


@dataclass(frozen=True)
class Times:
    """Seconds of the wall's clock, and of this process on a processor."""

    wall_s: float
    cpu_s: float

    @classmethod
    def now(cls) -> "Times":
        """Both clocks."""
        return cls(time.perf_counter(), time.process_time())

    def elapsed(self) -> "Times":
        """Since these were read."""
        now = Times.now()
        return Times(now.wall_s - self.wall_s, now.cpu_s - self.cpu_s)


def engine_of(hidden: int, *, max_depth: int, vocabulary: int = 128) -> NativeEngine:
    """A random model of 1 prelude, 2 core and 1 coda layers, served on CPU in float32."""
    torch.manual_seed(0)
    config = RecurrentConfig(
        vocab_size=vocabulary,
        hidden_size=hidden,
        intermediate_size=2 * hidden,
        num_attention_heads=hidden // HEAD_DIM,
        max_position_embeddings=PROMPT_TOKENS + TOKENS,
        num_iterations=max_depth,
        max_iterations=max_depth,
    )
    settings = EngineSettings(
        max_model_tokens=PROMPT_TOKENS + TOKENS,
        max_sequences=SEQUENCES,
        device="cpu",
        dtype="float32",
        kv_cache_gib=2,
        gpus=1,
        gpu_memory_fraction=0.5,
    )
    with tempfile.TemporaryDirectory() as folder:
        RecurrentForCausalLM(config).save_pretrained(folder)
        return NativeEngine(Path(folder), settings, version=0)


def geometric(count: int, *, mean: float, high: int, draw: torch.Generator) -> list[int]:
    """Depths from 1 to `high` whose mean is `mean`: a geometric distribution, cut at `high`.

    The cut lowers the mean, so the rate is found by bisection.
    """
    depths = torch.arange(1, high + 1, dtype=torch.float64)
    low_rate, high_rate = 0.0, 1.0
    for _ in range(60):
        rate = (low_rate + high_rate) / 2
        weights = rate**depths
        if float((weights * depths).sum() / weights.sum()) < mean:
            low_rate = rate
        else:
            high_rate = rate
    drawn = torch.multinomial(low_rate**depths, count, replacement=True, generator=draw)
    return (drawn + 1).tolist()


def batch(*, max_depth: int, mean: float | None, seed: int = 0) -> list[Request]:
    """Prompts with their depths by token: all at `max_depth`, or spread around `mean`."""
    draw = torch.Generator().manual_seed(seed)
    requests = []
    for index in range(SEQUENCES):
        prompt = torch.randint(0, 128, (PROMPT_TOKENS,), generator=draw)
        asked = DepthRequest(depth=max_depth, prompt_depth=1)
        if mean is not None:
            spread = geometric(TOKENS, mean=mean, high=max_depth, draw=draw)
            asked = DepthRequest(
                rule="schedule", depth=max_depth, prompt_depth=1, schedule=tuple(spread)
            )
        requests.append(
            Request(
                prompt_id=str(index),
                prompt_tokens=tuple(prompt.tolist()),
                sample=0,
                seed=index,
                max_tokens=TOKENS,
                temperature=1.0,
                depth=asked,
            )
        )
    return requests


def share_of_ideal(hidden: int, *, max_depth: int, repeats: int = 5) -> dict[str, float]:
    """How much of the FLOPs that shallow tokens save is saved in time.

    (1 - t_shallow / t_full) / (1 - flops_shallow / flops_full): 1 is ideal.
    """
    engine = engine_of(hidden, max_depth=max_depth)
    batches = {
        "full": batch(max_depth=max_depth, mean=None),
        "shallow": batch(max_depth=max_depth, mean=max_depth / 4),
    }
    times: dict[str, list[Times]] = {"full": [], "shallow": []}
    flops: dict[str, float] = {}
    for repeat in range(repeats + 1):
        for name, requests in batches.items():
            taken, rollouts = timed(engine, requests)
            flops[name] = sum(rollout.flops for rollout in rollouts)
            if repeat:  # the first of each warms up
                times[name].append(taken)
    pairs = list(zip(times["shallow"], times["full"], strict=True))
    wall = statistics.median(shallow.wall_s / full.wall_s for shallow, full in pairs)
    processor = statistics.median(shallow.cpu_s / full.cpu_s for shallow, full in pairs)
    saved = 1 - flops["shallow"] / flops["full"]
    return {
        "hidden": hidden,
        "max_depth": max_depth,
        "flops_ratio": 1 - saved,
        "wall_ratio": wall,
        "cpu_ratio": processor,
        "share_of_ideal": (1 - wall) / saved,
        "share_of_ideal_cpu": (1 - processor) / saved,
        "full_cpu_s": statistics.median(full.cpu_s for _, full in pairs),
        "shallow_cpu_s": statistics.median(shallow.cpu_s for shallow, _ in pairs),
    }


def against_generate(hidden: int, *, depth: int, repeats: int = 3) -> dict[str, float]:
    """Tokens a second at 64 sequences and one depth, beside transformers' own `generate`."""
    engine = engine_of(hidden, max_depth=depth)
    requests = [
        Request(
            prompt_id=request.prompt_id,
            prompt_tokens=request.prompt_tokens,
            sample=0,
            seed=request.seed,
            max_tokens=TOKENS,
            temperature=1.0,
        )
        for request in batch(max_depth=depth, mean=None)
    ]
    prompts = torch.tensor([request.prompt_tokens for request in requests])
    pairs: list[tuple[Times, Times]] = []
    for repeat in range(repeats + 1):
        native, _ = timed(engine, requests)
        start = Times.now()
        engine.model.generate(prompts, do_sample=True, max_new_tokens=TOKENS)
        if repeat:
            pairs.append((native, start.elapsed()))
    tokens = SEQUENCES * TOKENS
    return {
        "hidden": hidden,
        "depth": depth,
        "native_tokens_per_cpu_s": tokens / statistics.median(n.cpu_s for n, _ in pairs),
        "transformers_tokens_per_cpu_s": tokens / statistics.median(t.cpu_s for _, t in pairs),
        "speedup": statistics.median(t.wall_s / n.wall_s for n, t in pairs),
        "speedup_cpu": statistics.median(t.cpu_s / n.cpu_s for n, t in pairs),
    }


def timed(engine: NativeEngine, requests: Sequence[Request]) -> tuple[Times, list[Rollout]]:
    """How long it took, and the rollouts."""
    start = Times.now()
    rollouts = list(engine.generate(requests, version=engine.version))
    return start.elapsed(), rollouts


def main() -> None:
    """Print every measure as a line of JSON."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--sizes", nargs="*", default=list(SIZES))
    parser.add_argument("--depths", nargs="*", type=int, default=[8, 16])
    parser.add_argument("--no-generate", action="store_true")
    asked = parser.parse_args()
    for size in asked.sizes:
        for depth in asked.depths:
            print(
                json.dumps(share_of_ideal(SIZES[size], max_depth=depth, repeats=asked.repeats)),
                flush=True,
            )
        if not asked.no_generate:
            print(json.dumps(against_generate(SIZES[size], depth=4)), flush=True)


if __name__ == "__main__":
    main()
