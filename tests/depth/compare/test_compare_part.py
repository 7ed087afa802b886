"""The critic among the methods: it is asked at every price, and its choice is paid for."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from safetensors.torch import save_file

from pipeline.depth.answers import Answers
from pipeline.depth.bench import Measurement
from pipeline.depth.compare.compare_part import Comparison, scored_everywhere
from pipeline.depth.compare.contenders import Contenders
from pipeline.depth.compare.critic_choice import choice_flops
from pipeline.depth.compare.methods import FIXED, RIVALS
from pipeline.depth.labels import critic
from pipeline.depth.labels.warm_start_part import Heads
from pipeline.measure.energy import Energy
from pipeline.recipe.depth_stage import DepthStage
from pipeline.recurrent.config import RecurrentConfig
from pipeline.recurrent.request import DepthRequest
from pipeline.recurrent.shape import shape_of

SPEC = DepthStage.model_validate(
    {
        "kind": "depth", "prompts": "t", "calibration": "t", "held_out": "t", "max_depth": 4,
        "max_tokens": 9, "prompt_depth": 3, "pareto": {"points": 2, "samples_per_prompt": 2},
    }
)  # fmt: skip
CHOSEN = [[1, 4], [2, 3]]  # depths of both prompts at either price
MEASURED = 1000.0  # FLOPs of every completion


class Bench:
    """A bench on which every completion costs the same."""

    def __init__(self, folder: Path) -> None:
        self.spec = SPEC
        self.plan: Any = SimpleNamespace(name="depth", seed=3, spec=SPEC)
        self.requests: list[Mapping[str, Sequence[DepthRequest]]] = []
        hardware = SimpleNamespace(rank_threads=1)
        recipe = SimpleNamespace(hardware=hardware, model=SimpleNamespace(dtype="float32"))
        self.ctx: Any = SimpleNamespace(
            work=folder,
            plan=SimpleNamespace(device="cpu", recipe=recipe),
            cluster=SimpleNamespace(call=self.choose),
            console=SimpleNamespace(log=lambda _: None),
        )
        self.prices: list[float] = []

    def prompts(self, entry: str, size: int) -> list[Any]:
        return [SimpleNamespace(id="a"), SimpleNamespace(id="b")]

    def choose(
        self, function: Any, job: Any, folder: Path, tokens: list[list[int]], *, log_price: float
    ) -> list[int]:
        assert [len(prompt) for prompt in tokens] == [5, 7]
        self.prices.append(log_price)
        return CHOSEN[len(self.prices) - 1]

    def measure(self, model: Path, prompts: Any, requests: Any, **_: Any) -> Measurement:
        if not isinstance(requests, DepthRequest):
            self.requests.append(requests)
        ones = np.ones((2, 2))
        rollouts = [
            SimpleNamespace(prompt_tokens=range(length), group=name)
            for name, length in (("a", 5), ("b", 7))
        ]
        groups: list[Any] = [
            SimpleNamespace(samples=[SimpleNamespace(rollout=rollout)]) for rollout in rollouts
        ]
        return Measurement(
            groups=groups,
            answers=Answers(correct=ones, iterations=ones, tokens=ones, flops=MEASURED * ones),
            energy=Energy(joules=4.0, source="analytic", seconds=1.0),
        )


def test_the_critics_choice_is_part_of_its_cost(tmp_path: Path) -> None:
    config = RecurrentConfig(hidden_size=32, num_attention_heads=2, max_iterations=4)
    config.save_pretrained(tmp_path)
    save_file(critic.Critic(32, 4).state_dict(), tmp_path / critic.CRITIC)
    bench: Any = Bench(tmp_path)
    heads = Heads(warm=tmp_path, labels=tmp_path, own_labels=tmp_path, critic=tmp_path)
    contenders = Contenders(policies=[tmp_path], heads=heads)
    with pytest.raises(ValueError, match="no phase that makes the model 'joint'"):
        contenders.model("joint")
    comparison = Comparison(bench, contenders, entry="t")
    (critic_method,) = (method for method in RIVALS if method.name == "critic")
    fixed = comparison.ladder(FIXED)
    bench.requests.clear()
    measurements = comparison.measured(critic_method, comparison.trial(fixed[0].groups))
    points = np.stack([m.answers.points for m in measurements], axis=1)

    shape = shape_of(json.loads((tmp_path / "config.json").read_text()))
    more = [
        [
            choice_flops(tmp_path, shape, prompt_tokens=tokens, prompt_depth=3, depth=depth)
            for tokens, depth in zip((5, 7), depths, strict=True)
        ]
        for depths in CHOSEN
    ]
    assert more[0][0] > more[1][0] > more[1][1] > 0  # two iterations waited for, one, none
    assert points[..., 1] == pytest.approx(MEASURED + np.array(more).T)
    for row, price, extra in zip(comparison.rows["critic"], bench.prices, more, strict=True):
        assert row["log_price"] == price
        assert row["flops_per_answer"] == pytest.approx(MEASURED + sum(extra) / 2)
        assert row["joules_per_answer"] == pytest.approx(row["flops_per_answer"] / MEASURED)
    for requests, depths in zip(bench.requests, CHOSEN, strict=True):
        assert [[r.depth for r in some] for some in requests.values()] == [[d] * 2 for d in depths]


def test_a_problem_that_some_setting_has_no_score_of_is_left_out_of_all() -> None:
    hull, policy = np.ones((4, 2, 3)), np.ones((2, 4, 3, 3))
    hull[1, 0, 2] = policy[1, 3, 2, 2] = np.nan
    assert scored_everywhere([hull, policy]).tolist() == [True, False, True, False]
