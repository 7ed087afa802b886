"""Prices of groups, and the depths that a policy is asked for at them."""

import math

import pytest

from pipeline.generate.priced_depths import PricedDepths, log_price
from pipeline.recurrent.request import DepthRequest


def test_prices_spread_over_their_range_and_repeat() -> None:
    drawn = [
        log_price(seed=1, step=s, group=f"p{i}", low=0.1, high=10.0)
        for s in range(20)
        for i in range(20)
    ]
    assert min(drawn) >= math.log(0.1)
    assert max(drawn) <= math.log(10.0)
    assert abs(sum(drawn) / len(drawn)) < 0.2
    assert len(set(drawn)) == 400
    assert drawn[21] == log_price(seed=1, step=1, group="p1", low=0.1, high=10.0)
    assert log_price(seed=1, step=1, group="p1", low=2.0, high=2.0) == math.log(2.0)


def test_a_falling_range_is_refused() -> None:
    with pytest.raises(ValueError, match="positive and rising"):
        log_price(seed=1, step=0, group="p", low=2.0, high=1.0)


def test_a_group_is_asked_at_its_price() -> None:
    policy = DepthRequest(rule="policy", depth=4, sampled=True)
    priced = PricedDepths(request=policy, low=0.1, high=10.0)
    found = priced.requests(["p1", "p1@2", "p3"], samples=3, seed=1, step=1)
    assert [len(group) for group in found.values()] == [3, 3, 3]
    assert {len(set(group)) for group in found.values()} == {1}
    assert len({group[0].log_price for group in found.values()}) == 3
    price = log_price(seed=1, step=1, group="p1", low=0.1, high=10.0)
    assert found["p1"][0].log_price == price
    assert found["p1"][0].sampled
