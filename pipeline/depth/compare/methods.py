"""The methods of the comparison: one entry each of one table. Pure.

A method is a way to choose depths that has one knob: a price, a threshold, a share. Its entry says
what it is called, which model it runs on, between which ends the knob turns, and what it runs at a
place of the knob. The comparison turns the knob until the method costs what is asked for, so a new
method is a new entry and nothing else.
"""

import math
import random
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from pipeline.depth.members import fixed_request, policy_request, threshold_request
from pipeline.generate.groups import Group
from pipeline.recipe.depth_parts import FOLLOWERS
from pipeline.recipe.depth_stage import DepthStage
from pipeline.recurrent.request import DepthRequest, Rule

Requests = DepthRequest | Mapping[str, Sequence[DepthRequest]]
"""One for all completions, or by `Rollout.group` one for each."""

Model = Literal["policy", "joint", "labels", "own_labels", "warm_start", "right"]
"""The models that methods run on; `contenders.Contenders` has their folders."""


@dataclass(frozen=True, kw_only=True)
class Setting:
    """One way to run all prompts of a trial."""

    requests: Requests
    key: Mapping[str, float]  # what tells it from the method's others, in the JSON document
    more_flops: NDArray[np.float64] | None = None  # [_P] of choosing depths, beside the rollouts


@dataclass(frozen=True, kw_only=True)
class Choice:
    """A depth for every prompt, [_P] each."""

    depths: Sequence[int]
    flops: NDArray[np.float64]  # of choosing it


@dataclass(frozen=True, kw_only=True)
class Trial:
    """The prompts that settings are made for, and what is known of them."""

    spec: DepthStage
    seed: int
    names: Sequence[str]  # [_P] `Rollout.group` of every prompt
    policy: Callable[[float], Sequence[Group]]  # what the first policy does there at ln(lambda)
    critic: Callable[[float], Choice]  # the critic's choice at ln(lambda)
    request_depth: Callable[[float], Choice]  # the regression's, so many iterations deeper
    static: Callable[[float], Sequence[int]]  # depth by position at ln(nats an iteration)


@dataclass(frozen=True, kw_only=True)
class Knob:
    """The ends of a method's knob. Between them the cost falls, but for noise, or stays."""

    dear: float  # where about every token runs at full depth
    cheap: float  # where about every token runs one iteration


@dataclass(frozen=True, kw_only=True)
class Method:
    """A way to choose depths."""

    name: str  # in recipes and in the JSON document
    label: str  # in tables and pictures
    knob: Callable[[DepthStage], Knob]
    setting: Callable[[Trial, float], Setting]  # at a place of the knob
    model: Model = "policy"

    @property
    def follows(self) -> bool:
        """It borrows depths from the policy, and stands wherever the policy's knob does."""
        return self.name in FOLLOWERS


@dataclass(frozen=True, kw_only=True)
class Ladder:
    """Fixed depths, which have no knob: all of them are measured."""

    name: str
    label: str
    request: Callable[[DepthStage, int], DepthRequest]  # at a depth


def trained_prices(spec: DepthStage) -> Knob:
    """ln(lambda) over the range that the policy learns on."""
    low, high = (math.log(price) for price in spec.rl.price)
    return Knob(dear=low, cheap=high)


def at_price(trial: Trial, log_price: float) -> Setting:
    """A halting head at a price, by its likelier decisions."""
    return Setting(
        requests=policy_request(trial.spec, log_price=log_price), key={"log_price": log_price}
    )


def at_price_sampled(trial: Trial, log_price: float) -> Setting:
    """A halting head at a price, its decisions drawn."""
    return Setting(
        requests=policy_request(trial.spec, log_price=log_price, sampled=True),
        key={"log_price": log_price},
    )


def permuted(trial: Trial, log_price: float) -> Setting:
    """Each completion at the depths that the policy chose for one of another prompt.

    The histogram of depths stays, what they answer to goes. Tokens past the end of the borrowed
    completion run at its mean depth.
    """
    groups = trial.policy(log_price)
    depths = {_name(g): [s.rollout.depths or () for s in g.samples] for g in groups}
    names = list(depths)
    random.Random(trial.seed).shuffle(names)
    lender = dict(zip(names, [*names[1:], names[0]], strict=True))  # nobody borrows its own
    return Setting(
        requests={
            name: [_schedule(trial.spec, lent) for lent in depths[lender[name]]] for name in depths
        },
        key={"log_price": log_price},
    )


def drawn(trial: Trial, log_price: float) -> Setting:
    """Every token at a depth drawn for it alone from the policy's at the price: its histogram, and
    nothing else of it."""
    groups = trial.policy(log_price)
    histogram = Counter(d for g in groups for s in g.samples for d in s.rollout.depths or ())
    depths, counts = list(histogram), list(histogram.values())

    def request(name: str, sample: int) -> DepthRequest:
        draws = random.Random(f"{trial.seed}/{name}/{sample}")
        return _schedule(trial.spec, draws.choices(depths, counts, k=trial.spec.max_tokens))

    return Setting(
        requests={
            _name(g): [request(_name(g), sample) for sample, _ in enumerate(g.samples)]
            for g in groups
        },
        key={"log_price": log_price},
    )


def static(trial: Trial, log_price: float) -> Setting:
    """Depths by position, the same for every request."""
    depths = trial.static(log_price)
    request = DepthRequest(
        rule="schedule",
        depth=depths[-1],
        prompt_depth=trial.spec.prompt_depth,
        schedule=tuple(depths),
    )
    return Setting(requests=request, key={"log_price": log_price})


def by_critic(trial: Trial, log_price: float) -> Setting:
    """One depth a request, which the critic chose from the prompt, at a cost of its own."""
    return _chosen(trial, trial.critic(log_price), key={"log_price": log_price})


def by_request_depth(trial: Trial, shift: float) -> Setting:
    """One depth a request, which the regression expects to be the cheapest right one, so many
    iterations deeper."""
    return _chosen(trial, trial.request_depth(shift), key={"shift": shift})


def _chosen(trial: Trial, choice: Choice, *, key: Mapping[str, float]) -> Setting:
    samples = trial.spec.pareto.samples_per_prompt
    return Setting(
        requests={
            name: [fixed_request(trial.spec, depth)] * samples
            for name, depth in zip(trial.names, choice.depths, strict=True)
        },
        key=key,
        more_flops=choice.flops,
    )


def exit_rule(name: Rule, label: str, *, dear: float, cheap: float, share: bool = False) -> Method:
    """Stop where the rule's signal crosses a threshold between these ends.

    The knob is the threshold's logarithm, or its logit where the threshold is a `share`.
    """

    def setting(trial: Trial, place: float) -> Setting:
        threshold = 1 / (1 + math.exp(-place)) if share else math.exp(place)
        return Setting(
            requests=threshold_request(trial.spec, name, threshold), key={"threshold": threshold}
        )

    odds = [end / (1 - end) if share else end for end in (dear, cheap)]
    ends = Knob(dear=math.log(odds[0]), cheap=math.log(odds[1]))
    return Method(name=name, label=label, knob=lambda _: ends, setting=setting)


FIXED = Ladder(name="fixed", label="fixed depth", request=fixed_request)
FIXED_WHOLE = Ladder(
    name="fixed_whole",
    label="fixed depth, prompt too",
    request=lambda _, depth: DepthRequest(depth=depth),
)

POLICY = Method(name="policy", label="learned policy", knob=trained_prices, setting=at_price)
JOINT = Method(
    name="joint",
    label="policy, tokens trained too",
    knob=trained_prices,
    setting=at_price,
    model="joint",
)
RIVALS = (
    Method(
        name="policy_sampled",
        label="policy, sampled",
        knob=trained_prices,
        setting=at_price_sampled,
    ),
    Method(name="permuted", label="its depths, permuted", knob=trained_prices, setting=permuted),
    Method(
        name="labels",
        label="head from labels alone",
        knob=trained_prices,
        setting=at_price,
        model="labels",
    ),
    Method(
        name="own_labels",
        label="labels of own loss alone",
        knob=trained_prices,
        setting=at_price,
        model="own_labels",
    ),
    Method(
        name="warm_start",
        label="warm start",
        knob=trained_prices,
        setting=at_price,
        model="warm_start",
    ),
    Method(
        name="critic",
        label="critic, a depth a request",
        knob=lambda _: Knob(dear=math.log(1e-3), cheap=math.log(1e2)),
        setting=by_critic,
    ),
    Method(
        name="request_depth",
        label="regression, a depth a request",
        knob=lambda spec: Knob(dear=spec.max_depth, cheap=-spec.max_depth),
        setting=by_request_depth,
    ),
    Method(
        name="static",
        label="static, by position",
        knob=lambda _: Knob(dear=math.log(1e-5), cheap=math.log(1e3)),
        setting=static,
    ),
    Method(name="random", label="its depths, drawn anew", knob=trained_prices, setting=drawn),
    replace(
        exit_rule("right", "right-already head", dear=0.9999, cheap=1e-4, share=True),
        model="right",
    ),
    exit_rule("kl", "KL exit", dear=1e-5, cheap=10.0),  # nats; Huginn 5e-4
    exit_rule("latent", "latent change exit", dear=1e-3, cheap=5.0),
    exit_rule("entropy", "entropy exit", dear=1e-5, cheap=10.0),  # nats
    exit_rule("second_order", "second-order exit", dear=1e-3, cheap=10.0),
    exit_rule("q_exit", "Q-exit gate", dear=0.999, cheap=0.01, share=True),
)
"""What a recipe names in `pareto.baselines`, but for `FIXED_WHOLE`, which is shown beside, and the
oracle, which is computed from `FIXED`."""

ORACLE = "oracle"

LABELS = {
    **{entry.name: entry.label for entry in (FIXED, FIXED_WHOLE, POLICY, JOINT, *RIVALS)},
    ORACLE: "oracle (cannot be had)",
}
"""What every method is called, by name."""


def of_seed(number: int) -> str:
    """What the rows of the policy of a seed are called in the JSON document.

    >>> of_seed(0), of_seed(2)
    ('policy', 'policy, seed 2')
    """
    return f"{POLICY.name}, seed {number}" if number else POLICY.name


def _name(group: Group) -> str:
    return group.samples[0].rollout.group


def _schedule(spec: DepthStage, depths: Sequence[int]) -> DepthRequest:
    return DepthRequest(
        rule="schedule",
        depth=max(1, round(sum(depths) / max(len(depths), 1))),
        prompt_depth=spec.prompt_depth,
        schedule=tuple(depths),
    )
