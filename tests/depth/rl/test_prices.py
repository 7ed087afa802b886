"""Prices of groups."""

import math

import pytest

from pipeline.depth.rl.prices import log_price


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
