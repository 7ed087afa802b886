"""Budgets meet their prices on curves whose inverse is known."""

import math
import random
from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.depth.calibrate.price_table import PricePoint, calibrate, falling, reach


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


def test_prices_are_measured_evenly() -> None:
    seen = calibrate(
        [], policy(falling_sigmoid), low=-2, high=2, points=5, tolerance=0.01, rounds=5
    )
    assert [m.log_price for m in seen] == [-2, -1, 0, 1, 2]
    assert reach(seen) == (seen[-1].share, seen[0].share)


def test_nothing_more_is_measured_for_a_budget_out_of_reach() -> None:
    seen = calibrate(
        [0.05, 0.999], policy(falling_sigmoid), low=-1, high=1, points=3, tolerance=0.01, rounds=5
    )
    assert len(seen) == 3


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


@given(st.lists(st.floats(0, 1), min_size=1, max_size=12))
def test_smoothed_shares_never_rise_and_keep_their_mean(shares: list[float]) -> None:
    seen = [
        PricePoint(log_price=float(i), share=s, accuracy=0, flops=0) for i, s in enumerate(shares)
    ]
    prices, smooth = falling(seen)
    assert all(a >= b - 1e-12 for a, b in zip(smooth, smooth[1:], strict=False))
    assert smooth.mean() == pytest.approx(sum(shares) / len(shares))
    assert prices.tolist() == [m.log_price for m in seen]
