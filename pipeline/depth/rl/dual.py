"""One fixed budget instead of a range of prices: the price as a dual variable. Pure.

The policy maximises reward - lambda * cost; lambda rises while the mean cost is over its target.
Updates are damped: a policy needs steps to follow. A policy without entropy cannot follow at all
and ends at one depth for every token, so the weight of the entropy is a dual variable as well.
"""

import math
from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True)
class Dual:
    """The variables, with a moving average of the cost."""

    log_price: float  # ln(lambda)
    entropy: float  # weight, RlUpdate.entropy
    mean_cost: float | None = None  # None before the first step


@dataclass(frozen=True, kw_only=True)
class DualRule:
    """How the variables follow what a step measured."""

    target_cost: float  # mean cost of a completion, in full-depth completions
    entropy_floor: float  # nats per decision
    log_price_range: tuple[float, float]
    entropy_range: tuple[float, float]
    rate: float = 0.1  # change of ln(lambda) at a cost off by its whole target
    largest: float = 0.1  # change of ln(lambda) in one step
    memory: float = 0.8  # of the moving average


def step(dual: Dual, rule: DualRule, *, cost: float, entropy: float) -> Dual:
    """The next variables, from a step's mean `cost` and mean `entropy` of a decision (nats).

    While entropy is under its floor, its weight grows by the relative shortfall and lambda moves
    by half; above the floor the weight shrinks back as slowly.

    Raises ValueError for a target or a floor that is not positive.
    """
    if rule.target_cost <= 0 or rule.entropy_floor <= 0:
        raise ValueError(
            f"target_cost={rule.target_cost} and entropy_floor={rule.entropy_floor} must be "
            "positive"
        )
    before = cost if dual.mean_cost is None else dual.mean_cost
    mean_cost = rule.memory * before + (1 - rule.memory) * cost
    shortfall = _clamp((rule.entropy_floor - entropy) / rule.entropy_floor, -1.0, 1.0)
    move = _clamp(rule.rate * (mean_cost / rule.target_cost - 1), -rule.largest, rule.largest)
    if shortfall > 0:
        move /= 2
    return Dual(
        log_price=_clamp(dual.log_price + move, *rule.log_price_range),
        entropy=_clamp(dual.entropy * math.exp(rule.rate * shortfall), *rule.entropy_range),
        mean_cost=mean_cost,
    )


def _clamp(value: float, low: float, high: float) -> float:
    return min(max(value, low), high)
