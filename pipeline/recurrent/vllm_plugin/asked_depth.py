"""What a request asks of its depth, checked and made whole before an engine sees it. Pure.

An engine that learned of an impossible depth in the middle of a batch could only fail as a whole.
"""

from collections.abc import Mapping
from typing import Any

from ..effort import default_request, request_for
from ..request import DepthRequest

KEY = "depth"
"""Name in `SamplingParams.extra_args` of a depth, a number; of a `DepthRequest` as a mapping; or of
one of effort, budget and price: `{"depth": {"effort": "low"}}`."""

SCALARS = ("effort", "budget")
"""Names beside it that say the same without a mapping, as a server's `vllm_xargs` must."""

_BY_CALIBRATION = {"effort", "budget", "price"}


def is_whole(extra: Mapping[str, Any]) -> bool:
    """Whether the extra arguments hold a whole `DepthRequest`, as engines of ours write it."""
    terms = extra.get(KEY)
    return isinstance(terms, Mapping) and not set(terms) <= _BY_CALIBRATION


def asked_depth(
    extra: Mapping[str, Any], *, config: Mapping[str, Any], generation: Mapping[str, Any]
) -> DepthRequest:
    """The depth that a request's extra arguments ask for; where they ask for none, the model's
    default effort, or its own number of iterations.

    `config` and `generation` are the model's `config.json` and `generation_config.json`.

    Raises ValueError for what the model cannot run, or for two ways of asking at once.
    """
    given = {name: extra[name] for name in (KEY, *SCALARS) if extra.get(name) is not None}
    if len(given) > 1:
        raise ValueError(f"give one of {' and '.join(given)}")
    if not given:
        return default_request(config, generation)
    ((name, value),) = given.items()
    request = _request(name, value, config)
    if request.deepest > config["max_iterations"]:
        raise ValueError(
            f"a depth of {request.deepest} was asked of a model with "
            f"max_iterations={config['max_iterations']}"
        )
    return request


def depth_of_terms(terms: Mapping[str, Any], config: Mapping[str, Any]) -> DepthRequest:
    """The request that a mapping stands for. Raises ValueError as `asked_depth` does."""
    if terms and set(terms) <= _BY_CALIBRATION:
        return request_for(config, **terms)
    return DepthRequest(**{**terms, "schedule": tuple(terms.get("schedule", ()))})


def cache_salt(request: DepthRequest, prompt_tokens: int) -> str:
    """What tells cached blocks of the same tokens apart: those whose keys and values differ.

    Where all positions run at one depth, that depth decides. Elsewhere the positions before the
    last of the prompt do so, and vLLM reads no more than those from its cache: hence the length.
    """
    uniform = request.rule == "fixed" and request.prefill_depth == request.depth
    length = "" if uniform else f" before {prompt_tokens}"
    return f"depth {request.prefill_depth}{length}"


def _request(name: str, value: Any, config: Mapping[str, Any]) -> DepthRequest:
    if name == KEY and isinstance(value, Mapping):
        return depth_of_terms(value, config)
    kind = {KEY: int, "effort": str, "budget": (int, float)}[name]
    if not isinstance(value, kind) or isinstance(value, bool):
        raise ValueError(f"{name}={value!r} must be {_KINDS[name]}")
    return DepthRequest(depth=value) if name == KEY else request_for(config, **{name: value})


_KINDS = {KEY: "a whole number", "effort": "the name of an effort", "budget": "a number"}
