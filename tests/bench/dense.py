"""What a dense model pays for the plugin: `VllmEngine` beside stock vLLM."""

import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from pipeline.generate.vllm_engine import VllmEngine
from pipeline.models.materialize import materialize
from pipeline.recipe.model_source import ModelSource, ScratchModel
from pipeline.records import Request
from tests.bench.models import PROMPT_TOKENS, SEQUENCES, TOKENS, alternating, batch, settings


def dense_overhead(*, rounds: int) -> float:
    """Time of a dense model through `VllmEngine` with the plugin, over stock vLLM's loop."""
    shape = ScratchModel(hidden=128, layers=4, heads=4, mlp=256, max_position=128)
    with tempfile.TemporaryDirectory() as folder:
        model = materialize(ModelSource(scratch=shape), Path(folder), seed=0)
        engine = VllmEngine(
            model, settings(sequences=SEQUENCES, tokens=PROMPT_TOKENS + TOKENS), version=0
        )
        stock = _stock_engine(model)
    asked = batch(lambda _: None)
    times = alternating(
        {
            "ours": lambda: list(engine.generate(asked, version=0)),
            "stock": lambda: _stock_generate(stock, asked),
        },
        rounds=rounds,
    )
    return times["ours"] / times["stock"]


def _stock_engine(model: Path) -> Any:
    """vLLM's own LLM, its runner as it was before the plugin."""
    from vllm import LLM
    from vllm.v1.worker.gpu_model_runner import GPUModelRunner

    hooked = GPUModelRunner._init_model_kwargs
    llm: Any = LLM(
        model=str(model),
        dtype="float32",
        enforce_eager=True,
        max_model_len=PROMPT_TOKENS + TOKENS,
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


def _stock_generate(llm: Any, asked: Sequence[Request]) -> Any:
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
