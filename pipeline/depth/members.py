"""Who is in a group of a policy-gradient step: the policy's members and the forced ones. Pure."""

import random
from collections.abc import Sequence

from pipeline.generate.priced_depths import log_price
from pipeline.generate.schedule import derived_seed
from pipeline.generate.service import Depths
from pipeline.recipe.depth_stage import DepthStage
from pipeline.recurrent.request import DepthRequest, Rule


def step_prices(
    spec: DepthStage, groups: Sequence[str], *, seed: int, step: int
) -> dict[str, float]:
    """ln(lambda) of every group of a step, by `pipeline.records.group_names`."""
    low, high = spec.rl.price
    return {
        name: log_price(seed=seed, step=step, group=name, low=low, high=high) for name in groups
    }


def step_requests(spec: DepthStage, prices: dict[str, float], *, seed: int, step: int) -> Depths:
    """One request per member: the policy's, drawn at the group's price, and last the forced ones,
    alternately at full depth and at a shallower one drawn for the group."""
    return {
        name: [
            *[policy_request(spec, log_price=price, sampled=True)]
            * (spec.rl.samples_per_prompt - spec.rl.forced),
            *(
                fixed_request(spec, _forced_depth(spec, seed, step, name, index))
                for index in range(spec.rl.forced)
            ),
        ]
        for name, price in prices.items()
    }


def policy_request(spec: DepthStage, *, log_price: float, sampled: bool = False) -> DepthRequest:
    """The halting policy at a price."""
    return DepthRequest(
        rule="policy",
        depth=spec.max_depth,
        prompt_depth=spec.prompt_depth,
        segment=spec.segment,
        log_price=log_price,
        sampled=sampled,
    )


def threshold_request(spec: DepthStage, rule: Rule, threshold: float) -> DepthRequest:
    """An exit rule of one threshold."""
    return DepthRequest(
        rule=rule, depth=spec.max_depth, prompt_depth=spec.prompt_depth, threshold=threshold
    )


def fixed_request(spec: DepthStage, depth: int) -> DepthRequest:
    """Every completion token at one depth, prompts as the policy's."""
    return DepthRequest(depth=depth, prompt_depth=spec.prompt_depth)


def _forced_depth(spec: DepthStage, seed: int, step: int, name: str, index: int) -> int:
    if index % 2 == 0:
        return spec.max_depth
    draw = random.Random(derived_seed(seed, "forced", step, name, index))
    return draw.randint(1, spec.max_depth - 1)
