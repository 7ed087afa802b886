"""What a request of a served model may ask of its depth."""

from dataclasses import asdict
from typing import Any

import pytest

from pipeline.recurrent.request import DepthRequest
from pipeline.recurrent.vllm_plugin.asked_depth import asked_depth, cache_salt, is_whole
from pipeline.recurrent.vllm_plugin.row_depths import MOST_REPORTS, DepthLog

PLAIN: dict[str, Any] = {"num_iterations": 3, "max_iterations": 8}
CALIBRATED: dict[str, Any] = PLAIN | {
    "depth_policy": {"depth": 6, "prompt_depth": 2, "segment": 1, "sampled": False},
    "depth_calibration": [{"budget": 0.3, "log_price": 0.5}, {"budget": 0.6, "log_price": -1}],
    "efforts": {"low": 0.3, "high": 0.6},
}


def asked(extra: dict[str, Any], config: dict[str, Any] = CALIBRATED) -> DepthRequest:
    return asked_depth(extra, config=config, generation={"effort": "high"})


def test_ways_to_ask() -> None:
    assert asked({"effort": "low"}).log_price == 0.5
    assert asked({"budget": 0.45}).log_price == pytest.approx(-0.25)
    assert asked({"depth": 4}) == DepthRequest(depth=4)
    assert asked({"depth": {"effort": "low"}}) == asked({"effort": "low"})
    schedule = DepthRequest(rule="schedule", depth=2, schedule=(3, 1))
    assert asked({"depth": asdict(schedule)}) == schedule


def test_where_nobody_asks_the_default_effort_decides() -> None:
    assert asked({}) == asked({"seed": 3}) == asked({"effort": "high"})
    assert asked({"effort": None}) == asked({})
    assert asked({}, PLAIN) == DepthRequest(depth=3)


@pytest.mark.parametrize(
    ("extra", "said"),
    [
        ({"effort": "most"}, "effort='most' is none of low, high"),
        ({"effort": ["low"]}, r"effort=\['low'\] must be the name of an effort"),
        ({"effort": 1}, "must be the name"),
        ({"budget": "half"}, "must be a number"),
        ({"budget": 2}, "at most 1"),
        ({"budget": True}, "must be a number"),
        ({"depth": 9}, "depth of 9 .* max_iterations=8"),
        ({"depth": 0}, "at least 1"),
        ({"depth": 2.5}, "must be a whole number"),
        ({"depth": "2"}, "must be a whole number"),
        ({"depth": 2, "effort": "low"}, "give one of depth and effort"),
    ],
)
def test_what_cannot_be_asked(extra: dict[str, Any], said: str) -> None:
    with pytest.raises(ValueError, match=said):
        asked(extra)


def test_an_engines_own_request_is_whole() -> None:
    assert is_whole({"depth": asdict(DepthRequest(depth=2))})
    for extra in ({}, {"depth": 2}, {"depth": {"effort": "low"}}, {"effort": "low"}):
        assert not is_whole(extra)


def test_blocks_are_shared_where_keys_and_values_are_equal() -> None:
    fixed, policy = DepthRequest(depth=3), DepthRequest(rule="policy", depth=6, prompt_depth=2)
    assert cache_salt(fixed, 10) == cache_salt(fixed, 20)
    assert cache_salt(fixed, 10) != cache_salt(DepthRequest(depth=2), 10)
    assert cache_salt(policy, 10) != cache_salt(policy, 20)


def test_a_request_that_ended_can_be_asked_about_for_a_while() -> None:
    log = DepthLog(num_iterations=3, max_iterations=8)
    entry = log.track("chatcmpl-a-12", None, seed=1, prompt_tokens=3)
    entry.depths += [3, 1, 5]
    assert log.report("chatcmpl-a", None) == (9, 3)
    assert log.report("chatcmpl-a", 2) == (4, 2)
    log.keep([])
    assert log.report("chatcmpl-a", 2) == (4, 2)
    assert log.report("chatcmpl-b", None) == (0, 0)
    for number in range(MOST_REPORTS):
        log.track(str(number), None, seed=1, prompt_tokens=3)
    log.keep([])
    assert log.report("chatcmpl-a", None) == (0, 0)
