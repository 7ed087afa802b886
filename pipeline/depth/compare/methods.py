"""The methods of the comparison: one entry each of one table. Pure.

A method is a way to choose depths. Its entry says what it is called, which model it runs on and
which settings of it are measured, so that a new method is a new entry.
"""

import math
import random
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from pipeline.depth.members import fixed_request, policy_request
from pipeline.generate.groups import Group
from pipeline.recipe.depth_stage import DepthStage
from pipeline.recurrent.request import DepthRequest, Rule

Requests = DepthRequest | Mapping[str, Sequence[DepthRequest]]
"""One for all completions, or by `Rollout.group` one for each."""

Model = Literal["policy", "joint", "labels", "own_labels", "warm_start"]
"""The models that methods run on; `contenders.Contenders` has their folders."""


@dataclass(frozen=True, kw_only=True)
class Setting:
    """One way to run all prompts."""

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
    """What settings may depend on."""

    spec: DepthStage
    seed: int
    policy: Sequence[Sequence[Group]]  # what the policy did, at each of its prices
    critic: Callable[[float], Choice]  # the critic's choice at ln(lambda)


@dataclass(frozen=True, kw_only=True)
class Method:
    """A way to choose depths."""

    name: str  # in recipes and in the JSON document
    label: str  # in tables and pictures
    settings: Callable[[Trial], Sequence[Setting]]
    model: Model = "policy"


def fixed(trial: Trial) -> list[Setting]:
    """Depths 1 to the deepest, prompts at their own depth."""
    return [
        Setting(requests=fixed_request(trial.spec, depth), key={"depth": depth})
        for depth in range(1, trial.spec.max_depth + 1)
    ]


def fixed_whole(trial: Trial) -> list[Setting]:
    """Depths 1 to the deepest, prompts too, as a model of that depth runs."""
    return [
        Setting(requests=DepthRequest(depth=depth), key={"depth": depth})
        for depth in range(1, trial.spec.max_depth + 1)
    ]


def log_prices(spec: DepthStage) -> list[float]:
    """ln(lambda) over the trained range, evenly."""
    low, high = (math.log(price) for price in spec.rl.price)
    return np.linspace(low, high, spec.pareto.points).tolist()


def prices(trial: Trial, *, sampled: bool = False) -> list[Setting]:
    """A halting head over the trained range of prices, by its likelier decisions or sampled."""
    return [
        Setting(
            requests=policy_request(trial.spec, log_price=price, sampled=sampled),
            key={"log_price": price},
        )
        for price in log_prices(trial.spec)
    ]


def sampled_prices(trial: Trial) -> list[Setting]:
    """A halting head over the trained range of prices, its decisions drawn."""
    return prices(trial, sampled=True)


def thresholds(
    rule: Rule, low: float, high: float, *, evenly: bool = False
) -> Callable[[Trial], Sequence[Setting]]:
    """An exit rule over a range that takes it from about the full depth to about the least,
    geometrically or `evenly`."""

    def settings(trial: Trial) -> list[Setting]:
        spread = np.linspace if evenly else np.geomspace
        return [
            Setting(
                requests=DepthRequest(
                    rule=rule,
                    depth=trial.spec.max_depth,
                    prompt_depth=trial.spec.prompt_depth,
                    threshold=threshold,
                ),
                key={"threshold": threshold},
            )
            for threshold in spread(low, high, trial.spec.pareto.points).tolist()
        ]

    return settings


def permuted(trial: Trial) -> list[Setting]:
    """Each completion at the depths that the policy chose for one of another prompt.

    The histogram of depths stays, what they answer to goes. Tokens past the end of the borrowed
    completion run at its mean depth.
    """
    return [_permuted(trial, groups) for groups in trial.policy]


def by_critic(trial: Trial) -> list[Setting]:
    """One depth a request, which the critic chose from the prompt, at a cost of its own."""
    names = [_name(group) for group in trial.policy[0]]
    samples = trial.spec.pareto.samples_per_prompt
    settings = []
    for price in log_prices(trial.spec):
        choice = trial.critic(price)
        requests = {
            name: [fixed_request(trial.spec, depth)] * samples
            for name, depth in zip(names, choice.depths, strict=True)
        }
        settings.append(
            Setting(requests=requests, key={"log_price": price}, more_flops=choice.flops)
        )
    return settings


FIXED = Method(name="fixed", label="fixed depth", settings=fixed)
POLICY = Method(name="policy", label="learned policy", settings=prices)
JOINT = Method(name="joint", label="policy, tokens trained too", settings=prices, model="joint")
FIXED_WHOLE = Method(name="fixed_whole", label="fixed depth, prompt too", settings=fixed_whole)
BASELINES = (
    FIXED_WHOLE,
    Method(name="policy_sampled", label="policy, sampled", settings=sampled_prices),
    Method(name="permuted", label="its depths, permuted", settings=permuted),
    Method(name="labels", label="head from labels alone", settings=prices, model="labels"),
    Method(
        name="own_labels", label="labels of own loss alone", settings=prices, model="own_labels"
    ),
    Method(name="warm_start", label="warm start", settings=prices, model="warm_start"),
    Method(name="critic", label="critic, a depth a request", settings=by_critic),
    Method(name="kl", label="KL exit", settings=thresholds("kl", 1e-4, 1.0)),  # nats; Huginn 5e-4
    Method(name="latent", label="latent change exit", settings=thresholds("latent", 0.02, 1.0)),
    Method(name="entropy", label="entropy exit", settings=thresholds("entropy", 1e-3, 2.0)),  # nats
    Method(
        name="second_order",
        label="second-order exit",
        settings=thresholds("second_order", 0.02, 2.0),
    ),
    Method(
        name="q_exit", label="Q-exit gate", settings=thresholds("q_exit", 0.1, 0.98, evenly=True)
    ),
)
"""What a recipe names in `pareto.baselines`, but for the oracle, which is computed from `FIXED`."""

ORACLE = "oracle"

LABELS = {
    **{method.name: method.label for method in (FIXED, POLICY, JOINT, *BASELINES)},
    ORACLE: "oracle (cannot be had)",
}
"""What every method is called, by name."""


def of_seed(number: int) -> str:
    """What the rows of the policy of a seed are called in the JSON document.

    >>> of_seed(0), of_seed(2)
    ('policy', 'policy, seed 2')
    """
    return f"{POLICY.name}, seed {number}" if number else POLICY.name


def _permuted(trial: Trial, groups: Sequence[Group]) -> Setting:
    names = [_name(group) for group in groups]
    random.Random(trial.seed).shuffle(names)
    lender = dict(zip(names, [*names[1:], names[0]], strict=True))  # nobody borrows its own
    depths = {_name(g): [s.rollout.depths or () for s in g.samples] for g in groups}
    return Setting(
        requests={
            name: [_schedule(trial.spec, lent) for lent in depths[lender[name]]] for name in depths
        },
        key={},
    )


def _name(group: Group) -> str:
    return group.samples[0].rollout.group


def _schedule(spec: DepthStage, depths: Sequence[int]) -> DepthRequest:
    return DepthRequest(
        rule="schedule",
        depth=max(1, round(sum(depths) / max(len(depths), 1))),
        prompt_depth=spec.prompt_depth,
        schedule=tuple(depths),
    )
