"""Who is in a group, and that it depends on seed, step and prompt alone."""

import math

from pipeline.depth.members import step_prices, step_requests
from pipeline.recipe.depth_stage import DepthStage


def spec(**rl: object) -> DepthStage:
    return DepthStage.model_validate(
        {
            "kind": "depth", "prompts": "t", "calibration": "t", "held_out": "t", "max_depth": 6,
            "max_tokens": 9, "segment": 2, "rl": {"samples_per_prompt": 6, **rl},
        }
    )  # fmt: skip


NAMES = [f"p{i}" for i in range(50)]


def test_prices_lie_in_the_range_and_repeat() -> None:
    prices = step_prices(spec(price=[0.1, 3.0]), NAMES, seed=5, step=2)
    assert all(math.log(0.1) <= price <= math.log(3) for price in prices.values())
    assert len(set(prices.values())) == len(NAMES)
    assert step_prices(spec(price=[0.1, 3.0]), NAMES[::-1], seed=5, step=2) == prices
    assert step_prices(spec(price=[0.1, 3.0]), NAMES, seed=5, step=3) != prices


def test_a_group_shares_its_price_and_is_the_policys() -> None:
    prices = step_prices(spec(), NAMES, seed=5, step=2)
    asked = step_requests(spec(), prices)
    assert list(asked) == NAMES
    for name, requests in asked.items():
        assert len(requests) == 6
        assert all(r.rule == "policy" and r.sampled for r in requests)
        assert {(r.depth, r.prefill_depth, r.segment) for r in requests} == {(6, 2, 2)}
        assert {r.log_price for r in requests} == {prices[name]}
