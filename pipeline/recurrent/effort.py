"""What a user asks of a calibrated model, as a depth request. Pure: loads no ML library.

A depth stage leaves in `config.json`: `depth_policy` (what the head was trained with: `depth`,
`prompt_depth`, `segment`, `sampled`), `depth_calibration` (rows of `budget`, `log_price`,
`mean_depth`, `accuracy`, `flops`, measured) and `efforts` (budgets by name). A budget is the mean
of iterations per completion token, as a share of the full depth.
"""

import math
from collections.abc import Mapping, Sequence
from typing import Any

from .request import DepthRequest

CALIBRATION = ("depth_policy", "depth_calibration", "efforts")
"""Keys of `config.json` that hold for the weights that they were measured on, and no others."""

EFFORT = "effort"
"""Key of `generation_config.json`: the effort where nobody asks for a depth."""


def request_for(
    config: Mapping[str, Any],
    *,
    effort: str | None = None,
    budget: float | None = None,
    price: float | None = None,
) -> DepthRequest:
    """The request for an effort, a budget in (0, 1], or a price of compute lambda > 0.

    `config` is the model's `config.json`, or `model.config.to_dict()`. Budgets between measured
    ones are interpolated in ln(lambda); those outside get the nearest measured one, and 1 the full
    depth.

    Raises ValueError where the model was never calibrated, or not exactly one thing is asked.
    """
    if sum(choice is not None for choice in (effort, budget, price)) != 1:
        raise ValueError("give exactly one of effort, budget, price")
    policy = config.get("depth_policy")
    if policy is None:
        raise ValueError(
            "the model has no depth_policy in its config.json: a depth stage writes it; "
            "ask for a depth instead"
        )
    if effort is not None:
        budget = _budget_of(config, effort)
    if budget is not None and not 0 < budget <= 1:
        raise ValueError(f"budget={budget} must lie over 0 and be at most 1, the full depth")
    if budget == 1:
        return DepthRequest(depth=policy["depth"], prompt_depth=policy["prompt_depth"])
    if price is not None and price <= 0:
        raise ValueError(f"price={price} must be positive")
    log_price = (
        math.log(price) if price is not None else price_of(config["depth_calibration"], budget or 0)
    )
    return DepthRequest(
        rule="policy",
        depth=policy["depth"],
        prompt_depth=policy["prompt_depth"],
        segment=policy["segment"],
        sampled=policy["sampled"],
        log_price=log_price,
    )


def default_effort(config: Mapping[str, Any], generation: Mapping[str, Any]) -> str | None:
    """The effort that a model is meant to be used at where nobody asks for a depth.

    `generation` is its `generation_config.json`, where a depth stage leaves the effort. None for a
    model that was never calibrated: its `num_iterations`.
    """
    return generation.get(EFFORT) if config.get("depth_policy") is not None else None


def default_request(config: Mapping[str, Any], generation: Mapping[str, Any]) -> DepthRequest:
    """What runs where nobody asks for a depth: the default effort, or `num_iterations`."""
    effort = default_effort(config, generation)
    if effort is None:
        return DepthRequest(depth=config["num_iterations"])
    return request_for(config, effort=effort)


def price_of(table: Sequence[Mapping[str, float]], budget: float) -> float:
    """ln(lambda) of a budget, from rows of `budget` and `log_price`, linear between them.

    >>> price_of([{"budget": 0.2, "log_price": 1.0}, {"budget": 0.6, "log_price": -1.0}], 0.3)
    0.5
    """
    rows = sorted((row["budget"], row["log_price"]) for row in table)
    for (low, dear), (high, cheap) in zip(rows, rows[1:], strict=False):
        if low <= budget <= high and low < high:
            return dear + (cheap - dear) * (budget - low) / (high - low)
    return rows[0][1] if budget < rows[0][0] else rows[-1][1]


def _budget_of(config: Mapping[str, Any], effort: str) -> float:
    efforts = config["efforts"]
    if effort not in efforts:
        raise ValueError(f"effort={effort!r} is none of {', '.join(efforts)}")
    return efforts[effort]
