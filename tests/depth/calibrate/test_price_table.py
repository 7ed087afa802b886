"""Budgets meet their prices on curves whose inverse is known."""

import math
import random
from collections.abc import Callable

import numpy as np
import pytest

from pipeline.depth.calibrate.price_table import PricePoint, calibrate, reach


def policy(share: Callable[[float], float]) -> Callable[[float], PricePoint]:
    return lambda x: PricePoint(log_price=x, share=share(x), accuracy=0.5, flops=1e6 * share(x))


def falling_sigmoid(x: float) -> float:
    return 0.125 + 0.875 / (1 + math.exp(2 * x))


def nearest(seen: list[PricePoint], budget: float) -> PricePoint:
    return min(seen, key=lambda m: abs(m.share - budget))


def test_bisection_meets_every_budget() -> None:
    asked: list[float] = []

    def measure(x: float) -> PricePoint:
        asked.append(x)
        return policy(falling_sigmoid)(x)

    budgets = [0.25, 0.5, 0.75]
    seen = calibrate(budgets, measure, low=-4, high=4, points=2, tolerance=0.02, rounds=8)
    assert all(abs(nearest(seen, b).share - b) <= 0.02 for b in budgets)
    prices = [nearest(seen, b).log_price for b in budgets]
    assert prices == sorted(prices, reverse=True)
    assert [m.log_price for m in seen] == sorted(asked)  # nothing is measured twice


def test_shares_are_divided_evenly_where_prices_are_not() -> None:
    """A curve that falls within a quarter of the prices: any budget's price is read off closely."""

    def steep(x: float) -> float:
        return falling_sigmoid(3 * x)

    seen = calibrate([], policy(steep), low=-4, high=4, points=13, tolerance=0.01, rounds=5)
    assert reach(seen) == (seen[-1].share, seen[0].share)
    shares = [m.share for m in seen]
    assert max(-np.diff(shares)) < 0.2
    for budget in np.linspace(0.15, 0.95, 9):
        price = np.interp(budget, shares[::-1], [m.log_price for m in seen][::-1])
        assert steep(price) == pytest.approx(budget, abs=0.03 * 0.875)


def test_nothing_more_is_measured_for_a_budget_out_of_reach() -> None:
    seen = calibrate(
        [0.05, 0.999], policy(falling_sigmoid), low=-1, high=1, points=3, tolerance=0.01, rounds=5
    )
    assert len(seen) == 3  # both ends, and the middle of their shares


def test_noise_does_not_trap_the_search() -> None:
    def noisy(x: float) -> float:
        return falling_sigmoid(x) + random.Random(x).gauss(0, 0.01)

    seen = calibrate([0.3, 0.6], policy(noisy), low=-4, high=4, points=2, tolerance=0.03, rounds=8)
    for budget in (0.3, 0.6):
        assert abs(falling_sigmoid(nearest(seen, budget).log_price) - budget) < 0.06


def test_a_jump_ends_the_search() -> None:
    step = policy(lambda x: 1.0 if x < 0.3 else 0.2)
    seen = calibrate([0.5], step, low=-2, high=2, points=2, tolerance=0.05, rounds=6)
    assert len(seen) == 8
    assert min(abs(m.log_price - 0.3) for m in seen) < 0.1
