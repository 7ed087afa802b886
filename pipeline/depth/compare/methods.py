"""The settings that the Pareto report compares: rules by threshold, the policy by price. Pure."""

import math
import random
from collections.abc import Mapping, Sequence

import numpy as np

from pipeline.depth.members import fixed_request, policy_request
from pipeline.recipe.depth_stage import DepthStage
from pipeline.recurrent.request import DepthRequest

THRESHOLDS: Mapping[str, tuple[float, float]] = {
    "kl": (1e-4, 1.0),  # nats; Huginn uses 5e-4
    "latent": (0.02, 1.0),
    "entropy": (1e-3, 2.0),  # nats
    "second_order": (0.02, 2.0),
}
"""Ranges that take a rule from about the full depth to about the least; spaced geometrically."""

Q_EXIT = (0.1, 0.98)
"""Range of the exit gate's CDF."""


def fixed_requests(spec: DepthStage, *, whole: bool) -> list[DepthRequest]:
    """Depths 1 to the deepest; `whole`: prompts too, as a model of that depth runs."""
    depths = range(1, spec.max_depth + 1)
    return [DepthRequest(depth=d) if whole else fixed_request(spec, d) for d in depths]


def rule_requests(spec: DepthStage, rule: str) -> list[DepthRequest]:
    """A training-free rule or the exit gate at thresholds over its range."""
    count = spec.pareto.points
    grid = (
        np.linspace(*Q_EXIT, count) if rule == "q_exit" else np.geomspace(*THRESHOLDS[rule], count)
    )
    return [
        DepthRequest(
            rule=rule,  # pyright: ignore[reportArgumentType]
            depth=spec.max_depth,
            prompt_depth=spec.prompt_depth,
            threshold=float(threshold),
        )
        for threshold in grid
    ]


def log_prices(spec: DepthStage) -> list[float]:
    """ln(lambda) over the trained range, evenly."""
    low, high = (math.log(price) for price in spec.rl.price)
    return np.linspace(low, high, spec.pareto.points).tolist()


def policy_requests(spec: DepthStage, *, sampled: bool = False) -> list[DepthRequest]:
    """A halting head over the trained range of prices."""
    return [policy_request(spec, log_price=price, sampled=sampled) for price in log_prices(spec)]


def permuted_requests(
    spec: DepthStage, depths: Mapping[str, Sequence[Sequence[int]]], *, seed: int
) -> dict[str, list[DepthRequest]]:
    """Each completion at the depths that the policy chose for one of another prompt.

    The histogram of depths stays, what they answer to goes. Tokens past the end of the borrowed
    completion run at its mean depth.

    Args:
        depths: the policy's, by group: one sequence per sample.
    """
    names = list(depths)
    random.Random(seed).shuffle(names)
    lender = dict(zip(names, [*names[1:], names[0]], strict=True))  # nobody borrows its own
    return {name: [_schedule(spec, lent) for lent in depths[lender[name]]] for name in depths}


def _schedule(spec: DepthStage, depths: Sequence[int]) -> DepthRequest:
    return DepthRequest(
        rule="schedule",
        depth=max(1, round(sum(depths) / max(len(depths), 1))),
        prompt_depth=spec.prompt_depth,
        schedule=tuple(depths),
    )
