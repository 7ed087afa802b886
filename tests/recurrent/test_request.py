"""Depth requests: what they plan, and what they refuse."""

from typing import Any

import pytest

from pipeline.recurrent.request import READOUT_RULES, RULES, THRESHOLD_RULES, DepthRequest


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"rule": "guess", "depth": 4}, "rule='guess' is none of fixed, schedule, kl"),
        ({"depth": 0}, "depth=0 must be at least 1"),
        ({"depth": 4, "min_depth": 0}, "min_depth=0 must be at least 1"),
        ({"depth": 4, "segment": 0}, "segment=0 must be at least 1"),
        ({"depth": 4, "prompt_depth": 0}, "prompt_depth=0 must be at least 1"),
        ({"depth": 4, "min_depth": 5}, "min_depth=5 is over depth=4"),
        ({"rule": "kl", "depth": 4}, "rule='kl' needs a threshold"),
        ({"rule": "schedule", "depth": 4, "schedule": (2, 0)}, "every depth of a schedule"),
    ],
)
def test_wrong_requests_name_the_field(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        DepthRequest(**changes)


def test_a_schedule_ends_in_the_depth() -> None:
    request = DepthRequest(rule="schedule", depth=2, schedule=(5, 1), prompt_depth=3)
    assert [request.planned(index) for index in range(4)] == request.plan(4) == [5, 1, 2, 2]
    assert request.plan(1) == [5]
    assert (request.prefill_depth, request.deepest) == (3, 5)


def test_other_rules_plan_their_cap() -> None:
    request = DepthRequest(rule="latent", depth=6, threshold=0.1)
    assert (request.planned(0), request.prefill_depth, request.deepest) == (6, 6, 6)
    assert request.plan(2) == [6, 6]
    assert DepthRequest(depth=2, prompt_depth=7).deepest == 7


def test_the_lists_of_rules_agree() -> None:
    assert set(READOUT_RULES) < set(THRESHOLD_RULES) < set(RULES)
