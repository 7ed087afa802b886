"""How much of the FLOPs that shallow tokens save vLLM saves in time; what dense models pay.

`python tests/bench/depth_vllm.py [ideal | dense]` prints one JSON document. Takes minutes: set
OMP_NUM_THREADS=1 and OMP_WAIT_POLICY=PASSIVE where other programs run. All ratios are of medians
of alternating runs in one process.
"""

import json
import random
import shutil
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch

from pipeline.generate.engine import EngineSettings
from pipeline.generate.vllm_engine import VllmEngine
from pipeline.recipe import ModelSource, ScratchModel
from pipeline.records import Request
from pipeline.recurrent.config import RecurrentConfig
from pipeline.recurrent.model import RecurrentForCausalLM
from pipeline.recurrent.request import DepthRequest
from pipeline.train.base_model import materialize

SEQUENCES, PROMPT, TOKENS = 64, 8, 64
MAX_DEPTH, MEAN_DEPTH = 8, 2
TOKENIZER = Path("data/models/tiny")
NARROW = {1: 1, 2: 1, 3: 1}
WIDE = {1: 21, 2: 5, 3: 2, 4: 2, 5: 1, 8: 2}
"""Shares of depths: every token within one of the mean, or some as deep as can be."""


def settings() -> EngineSettings:
    return EngineSettings(
        max_model_tokens=128,
        max_sequences=SEQUENCES,
        device="cpu",
        dtype="float32",
        kv_cache_gib=2,
        gpus=1,
        gpu_memory_fraction=0.5,
    )


def recurrent_folder(folder: Path, *, hidden: int) -> Path:
    """A random recurrent model: 1 prelude, 2 core, 1 coda layers."""
    config = RecurrentConfig(
        vocab_size=128,
        hidden_size=hidden,
        intermediate_size=2 * hidden,
        num_attention_heads=hidden // 32,
        max_position_embeddings=128,
        max_iterations=MAX_DEPTH,
    )
    torch.manual_seed(0)
    RecurrentForCausalLM(config).save_pretrained(folder)
    shutil.copy(TOKENIZER / "tokenizer.json", folder)
    settings = json.loads((TOKENIZER / "tokenizer_config.json").read_text())
    del settings["eos_token"]  # a random model would end half of its completions early
    (folder / "tokenizer_config.json").write_text(json.dumps(settings))
    return folder


def schedules(shares: dict[int, int]) -> list[tuple[int, ...]]:
    """One schedule a sequence, with the mean depth `MEAN_DEPTH`."""
    rows = random.Random(0)
    deck = [depth for depth, share in shares.items() for _ in range(share)]
    assert sum(deck) == MEAN_DEPTH * len(deck)
    drawn = (deck * (SEQUENCES * TOKENS // len(deck) + 1))[: SEQUENCES * TOKENS]
    rows.shuffle(drawn)
    return [tuple(drawn[i * TOKENS : (i + 1) * TOKENS]) for i in range(SEQUENCES)]


def requests(depths: Sequence[DepthRequest | None]) -> list[Request]:
    return [
        Request(
            prompt_id=str(i),
            prompt_tokens=tuple(20 + (i * 7 + j) % 60 for j in range(PROMPT)),
            sample=i,
            seed=i,
            max_tokens=TOKENS,
            temperature=1.0,
            depth=depth,
        )
        for i, depth in enumerate(depths)
    ]


def alternating(runs: Sequence[Callable[[], Any]], *, rounds: int) -> list[list[float]]:
    """CPU seconds [run][round], one after the other in every round; a first round warms up.

    With one thread, CPU time is what an idle machine's clock would show.
    """
    seconds: list[list[float]] = [[] for _ in runs]
    for index in range(rounds + 1):
        for times, run in zip(seconds, runs, strict=True):
            start = time.process_time()
            run()
            if index:
                times.append(time.process_time() - start)
    return seconds


def share_of_ideal(*, hidden: int, shares: dict[int, int], rounds: int = 7) -> dict[str, float]:
    """(1 - t_shallow / t_full) / (1 - FLOPs_shallow / FLOPs_full) of a decode-heavy batch."""
    with tempfile.TemporaryDirectory() as folder:
        engine = VllmEngine(recurrent_folder(Path(folder), hidden=hidden), settings(), version=0)
    full = requests([DepthRequest(depth=MAX_DEPTH)] * SEQUENCES)
    shallow = requests(
        [DepthRequest(rule="schedule", depth=MEAN_DEPTH, schedule=s) for s in schedules(shares)]
    )
    flops = [sum(r.flops for r in engine.generate(x, version=0)) for x in (full, shallow)]
    runs = [lambda x=x: list(engine.generate(x, version=0)) for x in (full, shallow)]
    t_full, t_shallow = (statistics.median(t) for t in alternating(runs, rounds=rounds))
    saved = 1 - t_shallow / t_full
    return {
        "hidden": hidden,
        "full_cpu_s": t_full,
        "shallow_cpu_s": t_shallow,
        "flops_ratio": flops[1] / flops[0],
        "share_of_ideal": saved / (1 - flops[1] / flops[0]),
    }


def dense_overhead(*, rounds: int = 7) -> dict[str, float]:
    """Time of a dense model through `VllmEngine` with the plugin, over stock vLLM's loop."""
    shape = ScratchModel(hidden=64, layers=4, heads=2, mlp=128, max_position=128)
    with tempfile.TemporaryDirectory() as folder:
        model = materialize(ModelSource(scratch=shape), Path(folder), seed=0)
        engine = VllmEngine(model, settings(), version=0)
        stock = stock_engine(model)
    asked = requests([None] * SEQUENCES)
    runs = [lambda: list(engine.generate(asked, version=0)), lambda: stock_generate(stock, asked)]
    ours, theirs = (statistics.median(t) for t in alternating(runs, rounds=rounds))
    return {"ours_cpu_s": ours, "stock_cpu_s": theirs, "dense_overhead": ours / theirs}


def stock_engine(model: Path) -> Any:
    """vLLM's own LLM, its runner as it was before the plugin."""
    from vllm import LLM
    from vllm.v1.worker.gpu_model_runner import GPUModelRunner

    hooked = GPUModelRunner._init_model_kwargs
    llm: Any = LLM(
        model=str(model),
        dtype="float32",
        enforce_eager=True,
        max_model_len=128,
        max_num_seqs=SEQUENCES,
        max_num_batched_tokens=8192,
        logprobs_mode="processed_logprobs",
        disable_log_stats=True,
        seed=0,
    )
    inner = hooked.__closure__
    assert inner is not None
    original = inner[0].cell_contents
    runner = llm.llm_engine.collective_rpc(lambda worker: worker.model_runner)[0]
    runner._init_model_kwargs = lambda num_reqs=None: original(runner, num_reqs)
    return llm


def stock_generate(llm: Any, asked: Sequence[Request]) -> Any:
    from vllm import SamplingParams
    from vllm.sampling_params import RequestOutputKind

    return llm.generate(
        [{"prompt_token_ids": list(r.prompt_tokens)} for r in asked],
        [
            SamplingParams(
                temperature=r.temperature,
                seed=r.seed,
                max_tokens=r.max_tokens,
                logprobs=0,
                detokenize=False,
                output_kind=RequestOutputKind.FINAL_ONLY,
            )
            for r in asked
        ],
        use_tqdm=False,
    )


def main(what: str) -> dict[str, Any]:
    if what == "dense":
        return dense_overhead()
    return {
        f"{name}, hidden {hidden}": share_of_ideal(hidden=hidden, shares=shares)
        for hidden in (64, 256)
        for name, shares in (("narrow", NARROW), ("wide", WIDE))
    }


if __name__ == "__main__":
    print(json.dumps(main(*(sys.argv[1:] or ["ideal"])), indent=1))
