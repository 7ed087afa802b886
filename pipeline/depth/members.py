"""At which depths completions are asked for: by the policy, a rule, or fixed. Pure."""

from collections.abc import Sequence

from pipeline.generate.priced_depths import log_price
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


def step_requests(spec: DepthStage, prices: dict[str, float]) -> Depths:
    """The members of every group of a policy-gradient step: all by the policy, drawn at the group's
    price.

    None runs at an imposed depth: what such a member earns can only be credited to all of its
    tokens at once, which teaches depth everywhere where a few deep tokens would do.
    """
    return {
        name: [policy_request(spec, log_price=price, sampled=True)] * spec.rl.samples_per_prompt
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
