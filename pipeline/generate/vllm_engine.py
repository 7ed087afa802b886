"""The vLLM engine, in-process. On CPU it runs eager; on GPUs it keeps vLLM's own defaults.

Log-probabilities are of the distribution that was sampled (temperature and top-p applied).
"""

import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from pipeline.generate.engine import EngineSettings, WeightVersionError
from pipeline.records import Request, Rollout


def engine_environment(settings: EngineSettings) -> dict[str, str]:
    """Environment variables that vLLM reads at import; set them before the process imports it."""
    common = {
        "VLLM_ENABLE_V1_MULTIPROCESSING": "0",
        "VLLM_NO_USAGE_STATS": "1",
        "VLLM_LOGGING_LEVEL": "WARNING",
        "VLLM_ALLOW_INSECURE_SERIALIZATION": "1",
    }
    if settings.device != "cpu":
        return common
    return common | {
        "VLLM_CPU_KVCACHE_SPACE": str(max(1, round(settings.kv_cache_gib))),
        "VLLM_CPU_OMP_THREADS_BIND": "nobind",
        "VLLM_TARGET_DEVICE": "cpu",
    }


class VllmEngine:
    """An `Engine` around vLLM's in-process LLM engine."""

    def __init__(self, model: Path, settings: EngineSettings, *, version: int) -> None:
        os.environ.update(engine_environment(settings))
        from vllm import LLM  # heavy, and reads the environment at import

        options: dict[str, Any] = {"dtype": settings.dtype}
        if settings.device == "cpu":
            options["enforce_eager"] = True
        else:
            options["gpu_memory_utilization"] = settings.gpu_memory_fraction
            options["tensor_parallel_size"] = settings.gpus
            options["weight_transfer_config"] = {"backend": "nccl"}
        self.version = version
        self._engine: Any = LLM(
            model=str(model),
            max_model_len=settings.max_model_tokens,
            max_num_seqs=settings.max_sequences,
            max_num_batched_tokens=max(8192, settings.max_model_tokens),
            logprobs_mode="processed_logprobs",
            generation_config="auto",
            disable_log_stats=True,
            seed=0,
            **options,
        ).llm_engine

    def generate(self, requests: Sequence[Request], *, version: int) -> Iterator[Rollout]:
        """Yield each request's rollout as it ends. Raises WeightVersionError."""
        if version != self.version:
            raise WeightVersionError(
                f"the engine holds weight version {self.version}, rollouts of {version} were asked"
            )
        waiting = {str(i): request for i, request in enumerate(requests)}
        for name, request in waiting.items():
            self._engine.add_request(
                name, {"prompt_token_ids": list(request.prompt_tokens)}, _sampling(request)
            )
        try:
            while waiting:
                for output in self._engine.step():
                    if output.finished:
                        done: Any = output.outputs[0]
                        yield self._rollout(waiting.pop(output.request_id), done)
        finally:
            if waiting:
                self._engine.abort_request(list(waiting))

    def load_weights(self, weights: Iterable[tuple[str, Any]], *, version: int) -> None:
        """Replace the weights in place. vLLM's CPU path repacks weights at load, so they go
        through the model runner's reload, which repacks again."""
        tensors = list(weights)
        self._engine.collective_rpc(_reload, args=(tensors,))
        self._engine.reset_prefix_cache()
        self.version = version

    def transfer(self, method: str, keywords: Mapping[str, Any], *, version: int) -> None:
        """One call of vLLM's weight transfer (GPUs; `pipeline.generate.transfer`)."""
        self._engine.collective_rpc(method, kwargs=dict(keywords))
        if method == "finish_weight_update":
            self._engine.reset_prefix_cache()
            self.version = version

    def _rollout(self, request: Request, output: Any) -> Rollout:
        logprobs = tuple(
            float(position[token].logprob)
            for token, position in zip(output.token_ids, output.logprobs, strict=True)
        )
        return Rollout(
            prompt_id=request.prompt_id,
            sample=request.sample,
            seed=request.seed,
            prompt_tokens=request.prompt_tokens,
            tokens=tuple(output.token_ids),
            logprobs=logprobs,
            stop="eos" if output.finish_reason == "stop" else "length",
            weight_version=self.version,
        )


def _reload(worker: Any, tensors: list[tuple[str, Any]]) -> None:
    worker.model_runner.reload_weights(weights_iterator=iter(tensors))


def _sampling(request: Request) -> Any:
    from vllm import SamplingParams
    from vllm.sampling_params import RequestOutputKind

    return SamplingParams(
        temperature=request.temperature,
        top_p=request.top_p,
        seed=request.seed,
        max_tokens=request.max_tokens,
        logprobs=0,
        detokenize=False,
        output_kind=RequestOutputKind.FINAL_ONLY,
    )
