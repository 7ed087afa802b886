"""The price finds a budget, and does not run away from a policy that stopped choosing."""

import dataclasses
import math

import pytest

from pipeline.depth.rl.dual import Dual, DualRule, step

RULE = DualRule(
    target_cost=0.4,
    entropy_floor=0.2,
    log_price_range=(-5.0, 5.0),
    entropy_range=(1e-3, 1.0),
)
START = Dual(log_price=0.0, entropy=0.01)


def policy_cost(log_price: float, *, softness: float) -> float:
    """Mean cost of tokens whose worth is spread over e^-2 to e^2, decided softly."""
    worths = [k / 10 - 2 for k in range(41)]
    shares = [1 / (1 + math.exp((log_price - w) / softness)) for w in worths]
    return 0.1 + 0.9 * sum(shares) / len(shares)


@pytest.mark.parametrize("target", [0.2, 0.4, 0.8])
def test_the_price_settles_where_the_cost_meets_the_target(target: float) -> None:
    """The policy lags: it answers to the price of ten steps ago."""
    rule = dataclasses.replace(RULE, target_cost=target)
    dual, prices = START, [0.0] * 10
    costs = []
    for _ in range(600):
        cost = policy_cost(prices[-10], softness=0.3)
        dual = step(dual, rule, cost=cost, entropy=0.3)
        prices.append(dual.log_price)
        costs.append(cost)
    assert max(abs(c - target) for c in costs[-100:]) < 0.05 * target


def test_moves_are_bounded_and_slower_under_the_entropy_floor() -> None:
    high = step(START, RULE, cost=100.0, entropy=0.3)
    assert high.log_price == pytest.approx(0.1)
    held = step(START, RULE, cost=100.0, entropy=0.0)
    assert held.log_price == pytest.approx(0.05)


def test_lost_entropy_raises_its_weight_and_lets_it_go_again() -> None:
    dual = START
    for _ in range(20):
        dual = step(dual, RULE, cost=0.4, entropy=0.05)
    assert dual.entropy > 0.04
    for _ in range(200):
        dual = step(dual, RULE, cost=0.4, entropy=0.5)
    assert dual.entropy == pytest.approx(RULE.entropy_range[0])


def test_impossible_rules_are_refused() -> None:
    with pytest.raises(ValueError, match="must be positive"):
        step(START, dataclasses.replace(RULE, target_cost=0.0), cost=1.0, entropy=0.1)
