"""Budgets meet their prices on curves whose inverse is known."""

import math
import random
from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.stages.depth.calibration import Measured, calibrate, falling, price_at


def policy(share: Callable[[float], float]) -> Callable[[float], Measured]:
    return lambda x: Measured(log_price=x, share=share(x), accuracy=0.5, flops=1e6 * share(x))


def falling_sigmoid(x: float) -> float:
    return 0.125 + 0.875 / (1 + math.exp(2 * x))


def test_bisection_meets_every_budget() -> None:
    asked: list[float] = []

    def measure(x: float) -> Measured:
        asked.append(x)
        return policy(falling_sigmoid)(x)

    chosen, seen = calibrate([0.25, 0.5, 0.75], measure, low=-4, high=4, tolerance=0.02, rounds=8)
    assert all(c.met and abs(c.found.share - c.budget) <= 0.02 for c in chosen)
    prices = [c.found.log_price for c in chosen]
    assert prices == sorted(prices, reverse=True)
    assert len(asked) == len(set(asked)) == len(seen)  # nothing is measured twice


def test_a_budget_out_of_reach_gets_the_nearer_end() -> None:
    chosen, _ = calibrate(
        [0.05, 0.99], policy(falling_sigmoid), low=-1, high=1, tolerance=0.01, rounds=5
    )
    assert [c.found.log_price for c in chosen] == [1, -1]
    assert not any(c.met for c in chosen)


def test_noise_does_not_trap_the_search() -> None:
    def noisy(x: float) -> float:
        return falling_sigmoid(x) + random.Random(x).gauss(0, 0.01)

    chosen, _ = calibrate([0.3, 0.6], policy(noisy), low=-4, high=4, tolerance=0.03, rounds=8)
    assert all(abs(falling_sigmoid(c.found.log_price) - c.budget) < 0.06 for c in chosen)


def test_a_jump_is_reported_as_not_met() -> None:
    step = policy(lambda x: 1.0 if x < 0.3 else 0.2)
    (only,), seen = calibrate([0.5], step, low=-2, high=2, tolerance=0.05, rounds=6)
    assert not only.met
    assert abs(only.found.log_price - 0.3) < 0.5
    assert len(seen) <= 9


@given(st.lists(st.floats(0, 1), min_size=1, max_size=12))
def test_smoothed_shares_never_rise_and_keep_their_mean(shares: list[float]) -> None:
    seen = [
        Measured(log_price=float(i), share=s, accuracy=0, flops=0) for i, s in enumerate(shares)
    ]
    prices, smooth = falling(seen)
    assert all(a >= b - 1e-12 for a, b in zip(smooth, smooth[1:], strict=False))
    assert smooth.mean() == pytest.approx(sum(shares) / len(shares))
    assert prices[0] <= price_at(seen, 0.5) <= prices[-1]
