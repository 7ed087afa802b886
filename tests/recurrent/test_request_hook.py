"""A request of a served recurrent model says its depth whole before an engine sees it."""

from types import SimpleNamespace
from typing import Any

import pytest
from vllm import SamplingParams
from vllm.exceptions import VLLMValidationError

from pipeline.recurrent.request import DepthRequest
from pipeline.recurrent.vllm_plugin import hooks

CONFIG: dict[str, Any] = {
    "model_type": "stepwell_recurrent",
    "num_iterations": 3,
    "max_iterations": 8,
    "depth_policy": {"depth": 6, "prompt_depth": 2, "segment": 1, "sampled": True},
    "depth_calibration": [{"budget": 0.3, "log_price": 0.5}],
    "efforts": {"low": 0.3},
}


def processed(
    params: Any, *, config: dict[str, Any] = CONFIG, salt: str | None = None
) -> tuple[Any, Any]:
    """The parameters that vLLM's own reader of requests is given, and the request that results."""
    given: list[Any] = []

    def original(self: Any, request_id: str, prompt: Any, params: Any, *_: Any) -> Any:
        given.append(params)
        return SimpleNamespace(prompt_token_ids=[5, 6, 7], cache_salt=salt)

    model = SimpleNamespace(model_type=config["model_type"], to_dict=lambda: config)
    reader: Any = SimpleNamespace(
        model_config=SimpleNamespace(hf_config=model), generation_config_fields={}
    )
    request = hooks._with_depth(original)(reader, "a", {}, params, ())
    return given[0], request


def test_an_effort_becomes_a_whole_request() -> None:
    own = SamplingParams(extra_args={"effort": "low", "other": 1})
    params, request = processed(own)
    depth = DepthRequest(**{**params.extra_args["depth"], "schedule": ()})
    assert (depth.rule, depth.depth, depth.log_price) == ("policy", 6, 0.5)
    assert params.extra_args["other"] == 1
    assert request.cache_salt == "depth 2 before 3"
    assert own.extra_args == {"effort": "low", "other": 1}  # a caller's own stays


def test_a_sampled_policy_without_a_seed_draws_anew() -> None:
    seeds = {
        processed(SamplingParams(extra_args={"effort": "low"}))[0].extra_args[hooks.SEED]
        for _ in range(8)
    }
    assert len(seeds) > 1
    seeded, _ = processed(SamplingParams(extra_args={"effort": "low"}, seed=3))
    assert hooks.SEED not in seeded.extra_args


def test_a_users_own_salt_stays() -> None:
    _, request = processed(SamplingParams(extra_args={"depth": 2}), salt="mine")
    assert request.cache_salt == "mine depth 2"


def test_what_the_model_cannot_run_is_refused() -> None:
    with pytest.raises(VLLMValidationError, match="max_iterations=8"):
        processed(SamplingParams(extra_args={"depth": 9}))


def test_other_requests_are_left_alone() -> None:
    for params, config in (
        (SamplingParams(extra_args={"depth": 2}), {"model_type": "llama"}),
        (SamplingParams(extra_args={"depth": {"depth": 2, "rule": "fixed"}}), CONFIG),
        (SimpleNamespace(), CONFIG),  # of pooling
    ):
        given, request = processed(params, config=config)
        assert given is params
        assert request.cache_salt is None
