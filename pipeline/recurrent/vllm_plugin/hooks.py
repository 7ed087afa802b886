"""What vLLM is made to do besides: tell the model whose rows it runs, keep its caches exact, and
refuse a depth that the model cannot run before an engine sees it.

The hooks leave every other model alone. The V2 runner needs neither the first nor a patch: it asks
the model for its state (`state.py`).
"""

from collections.abc import Callable
from dataclasses import asdict
from random import SystemRandom
from typing import Any

import vllm
from vllm import SamplingParams
from vllm.exceptions import VLLMValidationError
from vllm.v1.core.sched.scheduler import Scheduler
from vllm.v1.engine.input_processor import InputProcessor
from vllm.v1.worker.gpu_model_runner import GPUModelRunner

from ..config import MODEL_TYPE
from .asked_depth import KEY, asked_depth, cache_salt, is_whole
from .paging import Batch
from .row_depths import plan_rows

RUNNER_HOOK, PREEMPTION = "_init_model_kwargs", "_preempt_request"
REQUEST_HOOK = "process_inputs"
SEED = "seed"  # in a request's extra arguments: the seed of a sampled policy's draws
IDLE_LOGS = 1024  # requests of other callers whose logs nobody took, before they are dropped

_installed: set[str] = set()


def install() -> None:
    """Extend the V1 runner, the scheduler and the reader of requests, once. Hooks that this vLLM
    lacks are left out; `require` then refuses the model."""
    for owner, name, extend in (
        (GPUModelRunner, RUNNER_HOOK, _with_batch),
        (Scheduler, PREEMPTION, _reading_no_cache),
        (InputProcessor, REQUEST_HOOK, _with_depth),
    ):
        if name in vars(owner) and name not in _installed:
            setattr(owner, name, extend(vars(owner)[name]))
            _installed.add(name)


def require(*, v2: bool) -> None:
    """Raises RuntimeError where this vLLM lacks a hook that the model needs."""
    names = {PREEMPTION} if v2 else {PREEMPTION, RUNNER_HOOK}
    if names - _installed:
        raise RuntimeError(
            f"vLLM {vllm.__version__} has no {', '.join(sorted(names - _installed))}, through "
            "which a recurrent model learns each token's depth: install the vLLM that "
            "pyproject.toml names"
        )


def _with_batch(original: Callable[..., dict[str, Any]]) -> Callable[..., dict[str, Any]]:
    def kwargs(self: GPUModelRunner, num_reqs: int | None = None) -> dict[str, Any]:
        options = original(self, num_reqs)
        # vLLM passes 0 for its own trial runs
        if num_reqs != 0 and self.model_config.hf_config.model_type == MODEL_TYPE:
            options["batch"] = _batch(self)
        return options

    return kwargs


def _batch(runner: Any) -> Batch:
    input_batch = runner.input_batch
    log = runner.model.depths
    if len(log) > IDLE_LOGS + 2 * len(runner.requests):
        log.keep(runner.requests)
    requests = []
    for name in input_batch.req_ids:
        request = runner.requests[name]
        params = request.sampling_params
        requests.append(
            log.track(
                name,
                params.extra_args,
                seed=(params.extra_args or {}).get(SEED, params.seed),
                prompt_tokens=request.num_prompt_tokens,
            )
        )
    count = len(requests)
    starts = runner.query_start_loc.np[: count + 1].astype("int64")
    rows = plan_rows(requests, starts, input_batch.num_computed_tokens_cpu[:count].astype("int64"))
    return Batch(
        rows=rows,
        block_table=input_batch.block_table[0].get_device_tensor(count),
        builder=runner.attn_groups[0][0].get_metadata_builder(0),
    )


def _with_depth(original: Callable[..., Any]) -> Callable[..., Any]:
    """A request says its depth whole: what it asked for, or what the model is meant to run at. Its
    tokens share cached blocks with those of equal depths alone."""

    def process(
        self: InputProcessor, request_id: str, prompt: Any, params: Any, *args: Any, **kwargs: Any
    ) -> Any:
        config = self.model_config.hf_config
        extra = getattr(params, "extra_args", None) or {}
        ours = config.model_type == MODEL_TYPE and isinstance(params, SamplingParams)
        if not ours or is_whole(extra):
            return original(self, request_id, prompt, params, *args, **kwargs)
        try:
            depth = asked_depth(
                extra, config=config.to_dict(), generation=self.generation_config_fields
            )
        except ValueError as error:
            raise VLLMValidationError(str(error), parameter=KEY) from error
        params = params.clone()
        params.extra_args = {**extra, KEY: asdict(depth)}
        if depth.sampled and params.seed is None and SEED not in extra:
            params.extra_args[SEED] = SystemRandom().getrandbits(31)
        request = original(self, request_id, prompt, params, *args, **kwargs)
        salt = cache_salt(depth, len(request.prompt_token_ids or ()))
        request.cache_salt = salt if request.cache_salt is None else f"{request.cache_salt} {salt}"
        return request

    return process


def _reading_no_cache(original: Callable[..., None]) -> Callable[..., None]:
    """A preempted request computes its tokens again, rather than finding the prefix cache's: a
    request with the same tokens may have generated them at other depths."""

    def preempt(self: Scheduler, request: Any, *args: Any, **kwargs: Any) -> None:
        original(self, request, *args, **kwargs)
        params = request.sampling_params
        if params is not None and params.extra_args and KEY in params.extra_args:
            request.skip_reading_prefix_cache = True

    return preempt
