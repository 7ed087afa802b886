"""The grid of settings: ranges, and the permuted schedule's histogram."""

from collections import Counter
from collections.abc import Sequence
from types import SimpleNamespace
from typing import Any, get_args

import numpy as np
import pytest

from pipeline.depth.compare.methods import (
    BASELINES,
    LABELS,
    ORACLE,
    Choice,
    Setting,
    Trial,
    by_critic,
    fixed,
    fixed_whole,
    permuted,
    prices,
    sampled_prices,
)
from pipeline.recipe.depth_stage import Baseline, DepthStage
from pipeline.recurrent.request import DepthRequest

SPEC = DepthStage.model_validate(
    {
        "kind": "depth", "prompts": "t", "calibration": "t", "held_out": "t", "max_depth": 4,
        "max_tokens": 9, "pareto": {"points": 3},
    }
)  # fmt: skip


def trial(**changes: Any) -> Trial:
    given: dict[str, Any] = {"spec": SPEC, "seed": 3, "policy": [], "critic": lambda _: None}
    return Trial(**(given | changes))


def group(prompt: str, depths: Sequence[tuple[int, ...]]) -> Any:
    samples = [SimpleNamespace(rollout=SimpleNamespace(depths=d, group=prompt)) for d in depths]
    return SimpleNamespace(prompt_id=prompt, samples=samples)


def requests(settings: Sequence[Setting]) -> list[Any]:
    return [setting.requests for setting in settings]


def test_every_baseline_of_the_recipe_is_in_the_table_and_on_by_default() -> None:
    named = {*(method.name for method in BASELINES), ORACLE}
    assert set(SPEC.pareto.baselines) == set(get_args(Baseline)) == named
    assert named | {"fixed", "policy", "joint"} == LABELS.keys()


def test_fixed_depths_have_their_prompts_both_ways() -> None:
    assert [r.depth for r in requests(fixed(trial()))] == [1, 2, 3, 4]
    assert {r.prefill_depth for r in requests(fixed(trial()))} == {2}
    assert [r.prefill_depth for r in requests(fixed_whole(trial()))] == [1, 2, 3, 4]
    assert [setting.key for setting in fixed(trial())] == [{"depth": d} for d in (1, 2, 3, 4)]


@pytest.mark.parametrize("rule", ["kl", "latent", "entropy", "second_order", "q_exit"])
def test_rules_sweep_their_threshold(rule: str) -> None:
    (method,) = (method for method in BASELINES if method.name == rule)
    settings = method.settings(trial())
    assert len({setting.key["threshold"] for setting in settings}) == 3
    assert {(r.rule, r.depth, r.prefill_depth) for r in requests(settings)} == {(rule, 4, 2)}
    assert [r.threshold for r in requests(settings)] == [s.key["threshold"] for s in settings]


def test_the_policy_sweeps_its_trained_prices() -> None:
    told = [r.log_price for r in requests(prices(trial()))]
    assert told == sorted(told) == [setting.key["log_price"] for setting in prices(trial())]
    assert told[0] == pytest.approx(-2.3026, abs=1e-3)
    assert told[-1] == pytest.approx(2.3026, abs=1e-3)
    assert all(r.sampled for r in requests(sampled_prices(trial())))


def test_permuted_depths_keep_their_histogram_and_leave_their_prompt() -> None:
    depths = {f"p{i}": [(i % 4 + 1, 2, 3), (1,) * (i + 1)] for i in range(9)}
    (setting,) = permuted(trial(policy=[[group(name, some) for name, some in depths.items()]]))
    assert not isinstance(setting.requests, DepthRequest)
    assert list(setting.requests) == list(depths)
    lent = Counter(r.schedule for some in setting.requests.values() for r in some)
    assert lent == Counter(tuple(d) for some in depths.values() for d in some)
    assert all(setting.requests[name][1].schedule != some[1] for name, some in depths.items())
    assert setting.requests["p0"][1].depth == 1  # past the end: the mean of what it borrowed


def test_the_critic_is_asked_at_every_price_and_its_choice_is_paid_for() -> None:
    groups = [group("a", [()]), group("b", [()])]
    asked: list[float] = []

    def critic(log_price: float) -> Choice:
        asked.append(log_price)
        return Choice(depths=[len(asked), 4], flops=np.array([10.0, 20.0 * len(asked)]))

    settings = by_critic(trial(policy=[groups], critic=critic))
    assert asked == [setting.key["log_price"] for setting in settings]
    for number, setting in enumerate(settings, start=1):
        assert not isinstance(setting.requests, DepthRequest)
        depths = {name: [r.depth for r in some] for name, some in setting.requests.items()}
        assert depths == {"a": [number], "b": [4]}
        assert setting.more_flops is not None
        assert setting.more_flops.tolist() == [10, 20 * number]
