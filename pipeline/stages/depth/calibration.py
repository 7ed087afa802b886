"""Budgets to prices of compute, from measurements of a policy. Pure.

The share of the full depth that a policy spends falls with ln(lambda), but for noise.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True, kw_only=True)
class Measured:
    """What a policy did when told one price."""

    log_price: float  # ln(lambda)
    share: float  # mean iterations per completion token over the full depth
    accuracy: float
    flops: float  # per answer


@dataclass(frozen=True, kw_only=True)
class Calibrated:
    """A budget with the price that meets it, measured; `met` within the tolerance."""

    budget: float
    found: Measured
    met: bool


def calibrate(
    budgets: Sequence[float],
    measure: Callable[[float], Measured],
    *,
    low: float,
    high: float,
    tolerance: float,
    rounds: int,
) -> tuple[list[Calibrated], list[Measured]]:
    """The price of each budget by bisection over ln(lambda), and everything that was measured.

    Every measurement serves all budgets. A bracket is of the measurements after `falling`, so
    noise cannot trap the search. A budget beyond what `low` and `high` reach gets the nearer end.

    Args:
        budgets: shares of the full depth.
        measure: the policy at ln(lambda).
        low: least ln(lambda), where most is spent.
        high: greatest.
        tolerance: share within which a budget is met.
        rounds: measurements for each budget at most, besides the two ends.
    """
    seen = {price: measure(price) for price in (low, high)}
    for budget in budgets:
        for _ in range(rounds):
            if min(abs(m.share - budget) for m in seen.values()) <= tolerance:
                break
            bracket = _bracket(list(seen.values()), budget)
            if bracket is None:
                break
            middle = (bracket[0] + bracket[1]) / 2
            seen[middle] = measure(middle)
    chosen = []
    for budget in budgets:
        nearest = min(seen.values(), key=lambda m: (abs(m.share - budget), m.log_price))
        met = abs(nearest.share - budget) <= tolerance
        if not met:
            price = price_at(list(seen.values()), budget)
            nearest = seen.setdefault(price, measure(price))
            met = abs(nearest.share - budget) <= tolerance
        chosen.append(Calibrated(budget=budget, found=nearest, met=met))
    return chosen, sorted(seen.values(), key=lambda m: m.log_price)


def price_at(seen: Sequence[Measured], budget: float) -> float:
    """ln(lambda) at a budget, linear between the measurements made falling; the nearer end where
    none reaches it."""
    prices, shares = falling(seen)
    return float(np.interp(-budget, -shares, prices))


def falling(seen: Sequence[Measured]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """(prices, shares) by rising price, shares as the nearest sequence that never rises (pool
    adjacent violators, Ayer et al., Annals of Mathematical Statistics 26(4), 1955)."""
    rows = sorted(seen, key=lambda m: m.log_price)
    blocks: list[tuple[float, int]] = []  # (mean, size)
    for row in rows:
        blocks.append((row.share, 1))
        while len(blocks) > 1 and blocks[-2][0] < blocks[-1][0]:
            (left, m), (right, n) = blocks[-2:]
            blocks[-2:] = [((left * m + right * n) / (m + n), m + n)]
    shares = [mean for mean, size in blocks for _ in range(size)]
    return np.array([row.log_price for row in rows]), np.array(shares)


def _bracket(seen: Sequence[Measured], budget: float) -> tuple[float, float] | None:
    """Neighbouring prices whose shares enclose the budget; None beyond the ends."""
    prices, shares = falling(seen)
    if not shares[-1] <= budget <= shares[0]:
        return None
    right = int(np.argmax(shares <= budget))
    left = max(right - 1, 0)
    return (float(prices[left]), float(prices[right])) if left < right else None
