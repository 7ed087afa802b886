"""What the depth benchmarks run: random models, a batch with its depths, interleaved timing."""

import json
import shutil
import statistics
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch

from pipeline.generate.engine import EngineSettings
from pipeline.records import Request
from pipeline.recurrent.config import RecurrentConfig
from pipeline.recurrent.model import RecurrentForCausalLM
from pipeline.recurrent.request import DepthRequest
from tests.generate.engine_settings import cpu_settings

SEQUENCES, PROMPT_TOKENS, TOKENS = 64, 16, 64
VOCABULARY = 128
TOKENIZER = Path("data/models/tiny")


def settings(*, sequences: int, tokens: int) -> EngineSettings:
    """One CPU engine in float32."""
    return cpu_settings(tokens=tokens, sequences=sequences, gib=2)


def recurrent_folder(folder: Path, *, hidden: int, max_depth: int) -> Path:
    """A random model of 1 prelude, 2 core and 1 coda layers that never ends a sequence."""
    torch.manual_seed(0)
    config = RecurrentConfig(
        vocab_size=VOCABULARY,
        hidden_size=hidden,
        intermediate_size=2 * hidden,
        num_attention_heads=hidden // 32,
        max_position_embeddings=PROMPT_TOKENS + TOKENS,
        num_iterations=max_depth,
        max_iterations=max_depth,
    )
    RecurrentForCausalLM(config).save_pretrained(folder)
    shutil.copy(TOKENIZER / "tokenizer.json", folder)
    tokenizer = json.loads((TOKENIZER / "tokenizer_config.json").read_text())
    del tokenizer["eos_token"]  # a random model would end half of its completions early
    (folder / "tokenizer_config.json").write_text(json.dumps(tokenizer))
    return folder


def batch(depths: Callable[[torch.Generator], DepthRequest | None]) -> list[Request]:
    """Random prompts; `depths` says how deep a request's tokens run."""
    draw = torch.Generator().manual_seed(0)
    return [
        Request(
            prompt_id=str(index),
            prompt_tokens=tuple(torch.randint(10, 100, (PROMPT_TOKENS,), generator=draw).tolist()),
            sample=0,
            seed=index,
            max_tokens=TOKENS,
            temperature=1.0,
            depth=depths(draw),
        )
        for index in range(SEQUENCES)
    ]


def spread(draw: torch.Generator, *, mean: float, high: int) -> DepthRequest:
    """A depth of its own for every token: geometric, cut at `high`, with the mean `mean`.

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
    drawn = torch.multinomial(low_rate**depths, TOKENS, replacement=True, generator=draw) + 1
    return DepthRequest(rule="schedule", depth=high, prompt_depth=1, schedule=tuple(drawn.tolist()))


def alternating(runs: Mapping[str, Callable[[], Any]], *, rounds: int) -> dict[str, float]:
    """Median seconds of every run, one after the other in each round; a first round warms up."""
    seconds: dict[str, list[float]] = {name: [] for name in runs}
    for index in range(rounds + 1):
        for name, run in runs.items():
            start = time.perf_counter()
            run()
            if index:
                seconds[name].append(time.perf_counter() - start)
    return {name: statistics.median(found) for name, found in seconds.items()}
