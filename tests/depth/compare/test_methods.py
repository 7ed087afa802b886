"""The table of methods: what each runs at a place of its knob."""

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from types import SimpleNamespace
from typing import Any, get_args

import numpy as np
import pytest

from pipeline.depth.compare.methods import (
    FIXED,
    FIXED_WHOLE,
    LABELS,
    ORACLE,
    POLICY,
    RIVALS,
    Choice,
    Method,
    Trial,
)
from pipeline.recipe.depth_parts import Baseline
from pipeline.recipe.depth_stage import DepthStage
from pipeline.recurrent.request import THRESHOLD_RULES, DepthRequest

SPEC = DepthStage.model_validate(
    {
        "kind": "depth", "prompts": "t", "calibration": "t", "held_out": "t", "max_depth": 4,
        "max_tokens": 9,
    }
)  # fmt: skip
METHODS: Mapping[str, Method] = {method.name: method for method in (POLICY, *RIVALS)}


def trial(**changes: Any) -> Trial:
    given: dict[str, Any] = {
        "spec": SPEC, "seed": 3, "names": [], "policy": lambda _: [], "critic": lambda _: None,
        "request_depth": lambda _: None, "static": lambda _: [],
    }  # fmt: skip
    return Trial(**(given | changes))


def group(prompt: str, depths: Sequence[tuple[int, ...]]) -> Any:
    samples = [SimpleNamespace(rollout=SimpleNamespace(depths=d, group=prompt)) for d in depths]
    return SimpleNamespace(prompt_id=prompt, samples=samples)


def test_every_baseline_of_the_recipe_is_in_the_table_and_on_by_default() -> None:
    named = {*(method.name for method in RIVALS), FIXED_WHOLE.name, ORACLE}
    assert set(SPEC.pareto.baselines) == set(get_args(Baseline)) == named
    assert named | {"fixed", "policy", "joint"} == LABELS.keys()


def test_fixed_depths_have_their_prompts_both_ways() -> None:
    assert [FIXED.request(SPEC, depth).depth for depth in (1, 4)] == [1, 4]
    assert FIXED.request(SPEC, 4).prefill_depth == FIXED.request(SPEC, 1).prefill_depth == 2
    assert [FIXED_WHOLE.request(SPEC, depth).prefill_depth for depth in (1, 4)] == [1, 4]


@pytest.mark.parametrize("rule", THRESHOLD_RULES)
def test_rules_turn_their_threshold(rule: str) -> None:
    method = METHODS[rule]
    knob = method.knob(SPEC)
    settings = [method.setting(trial(), p) for p in np.linspace(knob.dear, knob.cheap, 5).tolist()]
    requests = [setting.requests for setting in settings]
    assert all(isinstance(request, DepthRequest) for request in requests)
    thresholds = [r.threshold for r in requests if isinstance(r, DepthRequest)]
    assert thresholds == [setting.key["threshold"] for setting in settings]
    assert thresholds == sorted(thresholds, reverse=rule in ("q_exit", "right"))  # have to reach it
    assert {
        (r.rule, r.depth, r.prefill_depth) for r in requests if isinstance(r, DepthRequest)
    } == {(rule, 4, 2)}


def test_the_policy_turns_its_price_within_the_trained_range() -> None:
    knob = POLICY.knob(SPEC)
    assert (math.exp(knob.dear), math.exp(knob.cheap)) == pytest.approx(SPEC.rl.price)
    setting = POLICY.setting(trial(), 0.3)
    assert isinstance(setting.requests, DepthRequest)
    assert setting.requests.log_price == setting.key["log_price"] == 0.3
    drawn = METHODS["policy_sampled"].setting(trial(), 0.3).requests
    assert isinstance(drawn, DepthRequest)
    assert drawn.sampled


def test_permuted_depths_keep_their_histogram_and_leave_their_prompt() -> None:
    depths = {f"p{i}": [(i % 4 + 1, 2, 3), (1,) * (i + 1)] for i in range(9)}
    groups = {0.3: [group(name, some) for name, some in depths.items()]}
    setting = METHODS["permuted"].setting(trial(policy=groups.__getitem__), 0.3)
    assert not isinstance(setting.requests, DepthRequest)
    assert list(setting.requests) == list(depths)
    lent = Counter(r.schedule for some in setting.requests.values() for r in some)
    assert lent == Counter(tuple(d) for some in depths.values() for d in some)
    assert all(setting.requests[name][1].schedule != some[1] for name, some in depths.items())
    assert setting.requests["p0"][1].depth == 1  # past the end: the mean of what it borrowed


def test_the_critics_choice_is_paid_for() -> None:
    choice = Choice(depths=[2, 4], flops=np.array([10.0, 20.0]))
    setting = METHODS["critic"].setting(trial(names=["a", "b"], critic=lambda _: choice), 0.5)
    assert not isinstance(setting.requests, DepthRequest)
    depths = {name: [r.depth for r in some] for name, some in setting.requests.items()}
    assert depths == {"a": [2], "b": [4]}
    assert setting.more_flops is not None
    assert setting.more_flops.tolist() == [10, 20]


def test_the_regressions_choice_is_paid_for() -> None:
    choice = Choice(depths=[3, 1], flops=np.array([1.0, 2.0]))
    asked: list[float] = []

    def expected(shift: float) -> Choice:
        asked.append(shift)
        return choice

    method = METHODS["request_depth"]
    setting = method.setting(trial(names=["a", "b"], request_depth=expected), 0.5)
    assert asked == [setting.key["shift"]] == [0.5]
    assert not isinstance(setting.requests, DepthRequest)
    assert {n: [r.depth for r in some] for n, some in setting.requests.items()} == {
        "a": [3], "b": [1],
    }  # fmt: skip
    assert setting.more_flops is choice.flops


def test_drawn_depths_have_the_policys_histogram_and_no_two_requests_alike() -> None:
    groups = {0.3: [group(f"p{i}", [(1, 1, 1, 4), (1, 1, 1, 1)]) for i in range(60)]}
    setting = METHODS["random"].setting(trial(policy=groups.__getitem__), 0.3)
    assert not isinstance(setting.requests, DepthRequest)
    schedules = [r.schedule for some in setting.requests.values() for r in some]
    assert {len(schedule) for schedule in schedules} == {SPEC.max_tokens}
    drawn = Counter(depth for schedule in schedules for depth in schedule)
    assert set(drawn) == {1, 4}
    assert drawn[4] / drawn.total() == pytest.approx(1 / 8, abs=0.05)
    assert len(set(schedules)) > 30
    again = METHODS["random"].setting(trial(policy=groups.__getitem__), 0.3)
    assert again.requests == setting.requests


def test_static_depths_are_the_same_for_every_request() -> None:
    setting = METHODS["static"].setting(trial(static=lambda _: [4, 2]), -1.0)
    assert isinstance(setting.requests, DepthRequest)
    assert [setting.requests.planned(index) for index in range(3)] == [4, 2, 2]
