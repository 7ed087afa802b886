"""Budgets to prices of compute, from measurements of a policy. Pure.

The share of the full depth that a policy spends falls with ln(lambda), but for noise.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True, kw_only=True)
class PricePoint:
    """What a policy does at one price."""

    log_price: float  # ln(lambda)
    share: float  # mean iterations per completion token over the full depth
    accuracy: float
    flops: float  # per answer


def calibrate(
    budgets: Sequence[float],
    measure: Callable[[float], PricePoint],
    *,
    low: float,
    high: float,
    points: int,
    tolerance: float,
    rounds: int,
) -> list[PricePoint]:
    """Measurements over ln(lambda), by rising price, dense enough to read any budget's price off.

    `points` evenly spaced ones, and more by bisection around each budget that none of them meets.
    Every measurement serves all budgets. A bracket is of the measurements after `falling`, so
    noise cannot trap the search. Nothing more is measured for a budget beyond what is reached.

    Args:
        budgets: shares of the full depth.
        measure: the policy at ln(lambda).
        low: least ln(lambda), where most is spent.
        high: greatest.
        points: 2 at least.
        tolerance: share within which a budget is met.
        rounds: further measurements for each budget at most.
    """
    evenly = np.linspace(low, high, points).tolist()
    by_price = {price: measure(price) for price in evenly}
    for budget in budgets:
        for _ in range(rounds):
            if min(abs(m.share - budget) for m in by_price.values()) <= tolerance:
                break
            bracket = _bracket(list(by_price.values()), budget)
            if bracket is None:
                break
            middle = (bracket[0] + bracket[1]) / 2
            by_price[middle] = measure(middle)
    return sorted(by_price.values(), key=lambda m: m.log_price)


def reach(measurements: Sequence[PricePoint]) -> tuple[float, float]:
    """The least and the greatest share that the prices spend."""
    _, shares = falling(measurements)
    return float(shares[-1]), float(shares[0])


def falling(measurements: Sequence[PricePoint]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """(prices, shares) by rising price, shares as the nearest sequence that never rises (pool
    adjacent violators, Ayer et al., Annals of Mathematical Statistics 26(4), 1955)."""
    rows = sorted(measurements, key=lambda m: m.log_price)
    blocks: list[tuple[float, int]] = []  # (mean, size)
    for row in rows:
        blocks.append((row.share, 1))
        while len(blocks) > 1 and blocks[-2][0] < blocks[-1][0]:
            (left, m), (right, n) = blocks[-2:]
            blocks[-2:] = [((left * m + right * n) / (m + n), m + n)]
    shares = [mean for mean, size in blocks for _ in range(size)]
    return np.array([row.log_price for row in rows]), np.array(shares)


def _bracket(measurements: Sequence[PricePoint], budget: float) -> tuple[float, float] | None:
    """Neighbouring prices whose shares enclose the budget; None beyond the ends."""
    prices, shares = falling(measurements)
    if not shares[-1] <= budget <= shares[0]:
        return None
    right = int(np.argmax(shares <= budget))
    left = max(right - 1, 0)
    return (float(prices[left]), float(prices[right])) if left < right else None
