"""The grid of settings: ranges, and the permuted schedule's histogram."""

from collections import Counter
from typing import get_args

import pytest

from pipeline.depth.compare.methods import (
    fixed_requests,
    permuted_requests,
    policy_requests,
    rule_requests,
)
from pipeline.recipe.depth_stage import Baseline, DepthStage

SPEC = DepthStage.model_validate(
    {
        "kind": "depth", "prompts": "t", "calibration": "t", "held_out": "t", "max_depth": 4,
        "max_tokens": 9, "pareto": {"points": 3},
    }
)  # fmt: skip


def test_every_baseline_is_on_by_default() -> None:
    assert SPEC.pareto.baselines == list(get_args(Baseline))


def test_fixed_depths_have_their_prompts_both_ways() -> None:
    assert [r.depth for r in fixed_requests(SPEC, whole=False)] == [1, 2, 3, 4]
    assert {r.prefill_depth for r in fixed_requests(SPEC, whole=False)} == {2}
    assert [r.prefill_depth for r in fixed_requests(SPEC, whole=True)] == [1, 2, 3, 4]


@pytest.mark.parametrize("rule", ["kl", "latent", "entropy", "second_order", "q_exit"])
def test_rules_sweep_their_threshold(rule: str) -> None:
    requests = rule_requests(SPEC, rule)
    thresholds = [r.threshold for r in requests]
    assert len(set(thresholds)) == 3
    assert {(r.rule, r.depth, r.prefill_depth) for r in requests} == {(rule, 4, 2)}


def test_the_policy_sweeps_its_trained_prices() -> None:
    prices = [r.log_price for r in policy_requests(SPEC)]
    assert prices == sorted(prices)
    assert prices[0] == pytest.approx(-2.3026, abs=1e-3)
    assert prices[-1] == pytest.approx(2.3026, abs=1e-3)
    assert all(r.sampled for r in policy_requests(SPEC, sampled=True))


def test_permuted_depths_keep_their_histogram_and_leave_their_prompt() -> None:
    depths = {f"p{i}": [(i % 4 + 1, 2, 3), (1,) * (i + 1)] for i in range(9)}
    asked = permuted_requests(SPEC, depths, seed=3)
    assert list(asked) == list(depths)
    lent = Counter(r.schedule for requests in asked.values() for r in requests)
    assert lent == Counter(tuple(d) for some in depths.values() for d in some)
    assert all(asked[name][1].schedule != some[1] for name, some in depths.items())
    assert asked["p0"][1].depth == 1  # past the end: the mean of what it borrowed
