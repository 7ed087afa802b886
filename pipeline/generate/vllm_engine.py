"""The vLLM engine, in-process. On CPU it runs eager; on GPUs it keeps vLLM's own defaults.

Log-probabilities are of the distribution that was sampled (temperature and top-p applied).
"""

import json
import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from pipeline.generate.engine import WHOLE, EngineSettings, Part, check_dense, check_version
from pipeline.generate.weights import folder_weights
from pipeline.records import Request, Rollout
from pipeline.recurrent.effort import default_request
from pipeline.recurrent.request import HEAD_RULES, DepthRequest
from pipeline.recurrent.shape import MODEL_TYPE, RecurrentShape, rollout_flops, shape_of
from pipeline.recurrent.vllm_plugin.asked_depth import cache_salt


def engine_environment(settings: EngineSettings) -> dict[str, str]:
    """Environment variables that vLLM reads at import; set them before the process imports it."""
    common = {
        "VLLM_ENABLE_V1_MULTIPROCESSING": "0",
        "VLLM_NO_USAGE_STATS": "1",
        "VLLM_LOGGING_LEVEL": "WARNING",
        "VLLM_LOGGING_STREAM": "ext://sys.stderr",
        "VLLM_ALLOW_INSECURE_SERIALIZATION": "1",
    }
    if settings.device != "cpu":
        return common
    return common | {
        "VLLM_CPU_KVCACHE_SPACE": str(max(1, round(settings.kv_cache_gib))),
        "VLLM_CPU_OMP_THREADS_BIND": "nobind",
        "VLLM_TARGET_DEVICE": "cpu",
    }


HEAD = "lm_head.weight"
SEED = (
    "seed"  # in a request's extra arguments: the seed of its draws, where the engine draws itself
)


CPU_BLOCK_TOKENS = 32
"""Tokens of a block of keys and values: samples of a prompt share whole blocks. vLLM's own 128 on
the CPU is more than many prompts have, so that each sample would read its prompt anew; 32 is the
least that its attention takes."""


class VllmEngine:
    """An `Engine` around vLLM's in-process LLM engine."""

    def __init__(self, model: Path, settings: EngineSettings, *, version: int) -> None:
        os.environ.update(engine_environment(settings))
        from vllm import LLM  # heavy, and reads the environment at import

        config = json.loads((model / "config.json").read_text())
        recurrent = config.get("model_type") == MODEL_TYPE
        self._depths = _DepthRules.of(config, model) if recurrent else None
        options: dict[str, Any] = {"dtype": settings.dtype}
        if settings.device == "cpu" or self._depths is not None:
            options["enforce_eager"] = True
        if settings.device == "cpu":
            options["block_size"] = CPU_BLOCK_TOKENS
        if self._depths is not None:
            from pipeline.recurrent.vllm_plugin import register

            register()  # for this process, also where the installed metadata is older
        if settings.device != "cpu":
            options["gpu_memory_utilization"] = settings.gpu_memory_fraction
            options["tensor_parallel_size"] = settings.gpus
            if settings.channel != "store":
                options["weight_transfer_config"] = {"backend": settings.channel}
            options["enable_sleep_mode"] = settings.channel == "ipc"
        self.version: int | None = version
        self._asleep = False
        self._in_process = settings.gpus == 1
        self._engine: Any = LLM(
            model=str(model),
            max_model_len=settings.max_model_tokens,
            max_num_seqs=settings.max_sequences,
            max_num_batched_tokens=max(8192, settings.max_model_tokens),
            logprobs_mode="processed_logprobs",
            generation_config="auto",
            disable_log_stats=True,
            seed=0,
            trust_remote_code=settings.own_code,
            **options,
        ).llm_engine
        self.own_draws = settings.device == "cpu"
        if self.own_draws:
            from pipeline.generate.vllm_sampler import install

            self._engine.collective_rpc(install)
            if self._engine.collective_rpc(_has_experts)[0]:
                # OLMoE and AFMoE are right from their second weights on, the others always
                weights = folder_weights(model, own_code=settings.own_code)
                self.load_weights(weights, version=version)

    def generate(self, requests: Sequence[Request], *, version: int) -> Iterator[Rollout]:
        """Yield each request's rollout as it ends.

        Raises WeightVersionError, and ValueError for depths that the model cannot run, or for
        exploration.
        """
        check_version(self.version, asked=version)
        self._wake()
        in_flight = {str(i): _InFlight(request, version) for i, request in enumerate(requests)}
        for one in in_flight.values():
            one.depth = self._depth(one.request)
        try:
            for name, one in in_flight.items():
                one.name = self._engine.add_request(
                    name, _prompt(one.request, one.depth), self._sampling(one.request, one.depth)
                )
            while in_flight:
                outputs = [output for output in self._engine.step() if output.finished]
                over = [in_flight.pop(output.request_id) for output in outputs]
                depths = self._take(over)
                for one, output, record in zip(over, outputs, depths, strict=True):
                    yield self._rollout(one, output.outputs[0], *record)
        finally:
            if in_flight:
                self._engine.abort_request(list(in_flight))
                self._take([one for one in in_flight.values() if one.name])

    def load_weights(
        self, weights: Iterable[tuple[str, Any]], *, version: int, part: Part = WHOLE
    ) -> None:
        """Replace the weights in place. vLLM's CPU path repacks weights at load, so they go
        through its reload, layer by layer, which repacks a layer once it is whole."""
        self.version = None
        self._wake()
        tensors = weights
        if not self._in_process:  # each worker is sent all of them
            from vllm.config import set_current_vllm_config

            with set_current_vllm_config(self._engine.vllm_config):
                tensors = list(weights)
        self._engine.collective_rpc(_reload, args=(tensors, part))
        self._engine.reset_prefix_cache()
        self.version = version if part.last else None

    def transfer(self, method: str, keywords: Mapping[str, Any], *, version: int) -> None:
        """One call of vLLM's weight transfer (GPUs; `pipeline.generate.transfer`)."""
        self._wake()
        if method == "start_weight_update":
            self.version = None
        self._engine.collective_rpc(method, kwargs=dict(keywords))
        if method == "finish_weight_update":
            self._engine.reset_prefix_cache()
            self.version = version

    def sleep(self) -> None:
        """Leave the GPU to others until the engine is used: weights wait in the machine's memory,
        keys and values are dropped (vLLM's level 1). Where weights came by CUDA IPC alone."""
        if not self._asleep:
            self._engine.sleep(level=1)
            self._asleep = True

    def _wake(self) -> None:
        if self._asleep:
            self._engine.wake_up()
            self._asleep = False

    def _depth(self, request: Request) -> DepthRequest | None:
        """How the request's depths are chosen; None for a dense model."""
        if request.explore is not None:
            raise ValueError(
                f"prompt {request.prompt_id!r} asks to explore, which vLLM does not: leave "
                "explore out, or set hardware.engine: native, which serves recurrent models"
            )
        if self._depths is not None:
            return self._depths.resolve(request.depth)
        check_dense(request)
        return None

    def _sampling(self, request: Request, depth: DepthRequest | None) -> Any:
        """vLLM's parameters. On the CPU our sampler reads the seed, and vLLM makes no generator."""
        from vllm import SamplingParams
        from vllm.sampling_params import RequestOutputKind

        extra = {} if depth is None else {"depth": asdict(depth)}
        if self.own_draws:
            extra |= {SEED: request.seed}
        return SamplingParams(
            temperature=request.temperature,
            top_p=request.top_p,
            seed=None if self.own_draws else request.seed,
            max_tokens=request.max_tokens,
            logprobs=0,
            detokenize=False,
            output_kind=RequestOutputKind.FINAL_ONLY,
            extra_args=extra or None,
        )

    def _take(self, over: Sequence["_InFlight"]) -> list[tuple[list[int], list[float]]]:
        """Depths and their log-probabilities of requests that ended; empty for a dense model."""
        if self._depths is None or not over:
            return [([], [])] * len(over)
        names = [one.name for one in over]
        return self._engine.collective_rpc(_take_depths, args=(names,))[0]

    def _rollout(
        self, in_flight: "_InFlight", output: Any, depths: list[int], chances: list[float]
    ) -> Rollout:
        request, depth = in_flight.request, in_flight.depth
        logprobs = tuple(
            float(position[token].logprob)
            for token, position in zip(output.token_ids, output.logprobs, strict=True)
        )
        recurrent: dict[str, Any] = {}
        if self._depths is not None and depth is not None:
            count = len(logprobs)  # a position after the last token may have run in advance
            token_depths = tuple(depths[:count])
            recurrent = {
                "depths": token_depths,
                "depth_logprobs": tuple(chances[:count]) if depth.sampled else None,
                "prompt_depth": depth.prefill_depth,
                "flops": rollout_flops(
                    self._depths.shape,
                    prompt_tokens=len(request.prompt_tokens),
                    depths=token_depths,
                    request=depth,
                ),
            }
        return Rollout(
            prompt_id=request.prompt_id,
            repeat=request.repeat,
            sample=request.sample,
            seed=request.seed,
            prompt_tokens=request.prompt_tokens,
            tokens=tuple(output.token_ids),
            logprobs=logprobs,
            stop="eos" if output.finish_reason == "stop" else "length",
            weight_version=in_flight.version,
            **recurrent,
        )


@dataclass
class _InFlight:
    """A request in flight."""

    request: Request
    version: int
    depth: DepthRequest | None = None
    name: str = ""  # the engine's own for it


@dataclass(frozen=True)
class _DepthRules:
    """What a recurrent model can be asked for."""

    shape: RecurrentShape
    policy: bool
    gate: bool
    plain: DepthRequest  # where nobody asks

    @classmethod
    def of(cls, config: Mapping[str, Any], model: Path) -> "_DepthRules":
        """Of a model's `config.json`, and the default effort in its folder."""
        file = model / "generation_config.json"
        generation = json.loads(file.read_text()) if file.exists() else {}
        return cls(
            shape=shape_of(config),
            policy=config["halting_width"] is not None,
            gate=bool(config["exit_gate"]),
            plain=default_request(config, generation),
        )

    def resolve(self, request: DepthRequest | None) -> DepthRequest:
        """The request, or the model's own. Raises ValueError for what it cannot run."""
        if request is None:
            return self.plain
        if request.deepest > self.shape.max_iterations:
            raise ValueError(
                f"a depth of {request.deepest} is over the model's "
                f"max_iterations={self.shape.max_iterations}"
            )
        if request.rule in HEAD_RULES and not self.policy:
            raise ValueError(
                f"the {request.rule} rule needs a model with a halting policy (halting_width)"
            )
        if request.rule == "q_exit" and not self.gate:
            raise ValueError("the q_exit rule needs a model with an exit gate (exit_gate: true)")
        return request


def _take_depths(worker: Any, names: list[str]) -> list[tuple[list[int], list[float]]]:
    return worker.model_runner.get_model().depths.take(names)


def _prompt(request: Request, depth: DepthRequest | None) -> dict[str, Any]:
    """vLLM's prompt. Cached blocks are shared by requests of the same salt: those whose equal
    tokens have equal keys and values."""
    prompt: dict[str, Any] = {"prompt_token_ids": list(request.prompt_tokens)}
    if depth is None:
        return prompt
    return prompt | {"cache_salt": cache_salt(depth, len(request.prompt_tokens))}


def _reload(worker: Any, tensors: Iterable[tuple[str, Any]], part: Part) -> None:
    """A part of what `GPUModelRunner.reload_weights` (vllm 0.31) does at once."""
    from vllm.config import set_current_vllm_config
    from vllm.model_executor.model_loader.reload import (
        finalize_layerwise_reload,
        initialize_layerwise_reload,
    )

    model = worker.model_runner.get_model()
    if not any(name.endswith("lm_head") for name, _ in model.named_modules()):
        # a tied head that this model's class has no module for: it reads the embedding
        tensors = ((name, tensor) for name, tensor in tensors if not name.endswith(HEAD))
    with set_current_vllm_config(worker.vllm_config):
        # under it transformers' own code is built, and the class whose folder weights come from
        if part.first:
            finalize_layerwise_reload(model, worker.model_config)  # of one that broke off
            if next(model.parameters()).device.type == "cpu":
                for method in _expert_methods(model):
                    method.moe_kernel = None  # vLLM packs experts for a CPU only where it makes it
            initialize_layerwise_reload(model)
        model.load_weights(tensors)
        if part.last:
            finalize_layerwise_reload(model, worker.model_config)


def _expert_methods(model: Any) -> list[Any]:
    """What runs the layers of experts of vLLM's model; empty for a dense one."""
    methods = [getattr(module, "quant_method", None) for module in model.modules()]
    return [method for method in methods if getattr(method, "moe_kernel", None) is not None]


def _has_experts(worker: Any) -> bool:
    return bool(_expert_methods(worker.model_runner.get_model()))
