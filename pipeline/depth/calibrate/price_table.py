"""Budgets to prices of compute, from measurements of a policy. Pure.

The share of the full depth that a policy spends falls with ln(lambda), but for noise.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from pipeline.measure.placement import falling, search, searched


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

    First the shares are divided evenly, by bisection: what is read off lies between neighbours, so
    their distance in share is what counts, not that of their prices. Then more around each budget
    that none of them meets. Nothing more is measured for a budget beyond what is reached.

    Args:
        budgets: shares of the full depth.
        measure: the policy at ln(lambda).
        low: least ln(lambda), where most is spent.
        high: greatest.
        points: measurements before budgets are looked at, 2 at least; fewer where two would hardly
            differ.
        tolerance: share within which a budget is met.
        rounds: further measurements for each budget at most.
    """
    by_price: dict[float, PricePoint] = {}

    def share(log_price: float) -> float:
        by_price[log_price] = measure(log_price)
        return by_price[log_price].share

    shares = searched(search([], {}, dear=low, cheap=high, measurements=2), share)
    between = np.linspace(shares[low], shares[high], points)[1:-1].tolist()
    evenly = search(between, shares, dear=low, cheap=high, measurements=points - 2)
    shares = searched(evenly, share)
    for budget in budgets:
        around = search(
            [budget], shares, dear=low, cheap=high, measurements=rounds, tolerance=tolerance
        )
        shares = searched(around, share)
    return sorted(by_price.values(), key=lambda m: m.log_price)


def reach(measurements: Sequence[PricePoint]) -> tuple[float, float]:
    """The least and the greatest share that the prices spend."""
    _, shares = falling({m.log_price: m.share for m in measurements})
    return float(shares[-1]), float(shares[0])
