"""Who is in a group, and that it depends on seed, step and prompt alone."""

import math

from pipeline.depth.members import step_prices, step_requests
from pipeline.recipe.depth_stage import DepthStage


def spec(**rl: object) -> DepthStage:
    return DepthStage.model_validate(
        {
            "kind": "depth", "prompts": "t", "calibration": "t", "held_out": "t", "max_depth": 6,
            "max_tokens": 9, "segment": 2, "rl": {"samples_per_prompt": 6, "forced": 3, **rl},
        }
    )  # fmt: skip


NAMES = [f"p{i}" for i in range(50)]


def test_prices_lie_in_the_range_and_repeat() -> None:
    prices = step_prices(spec(price=[0.1, 3.0]), NAMES, seed=5, step=2)
    assert all(math.log(0.1) <= price <= math.log(3) for price in prices.values())
    assert len(set(prices.values())) == len(NAMES)
    assert step_prices(spec(price=[0.1, 3.0]), NAMES[::-1], seed=5, step=2) == prices
    assert step_prices(spec(price=[0.1, 3.0]), NAMES, seed=5, step=3) != prices


def test_a_group_shares_its_price_and_ends_with_forced_members() -> None:
    prices = step_prices(spec(), NAMES, seed=5, step=2)
    asked = step_requests(spec(), prices, seed=5, step=2)
    shallow = set()
    for name, requests in asked.items():
        assert [r.rule for r in requests] == ["policy"] * 3 + ["fixed"] * 3
        assert all(r.sampled and r.segment == 2 and r.depth == 6 for r in requests[:3])
        assert {r.log_price for r in requests[:3]} == {prices[name]}
        assert {r.prefill_depth for r in requests} == {2}
        assert requests[3].depth == requests[5].depth == 6
        shallow.add(requests[4].depth)
    assert shallow == {1, 2, 3, 4, 5}
    assert step_requests(spec(), prices, seed=5, step=2) == asked
