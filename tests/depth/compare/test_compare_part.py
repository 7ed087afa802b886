"""Methods placed at the same costs, on one half of the prompts for the other."""

import json
import math
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from safetensors.torch import save_file

from pipeline.depth.answers import Answers
from pipeline.depth.bench import Measurement
from pipeline.depth.compare.compare_part import (
    RESULTS_FILE,
    largest_stated,
    make,
    scored_everywhere,
)
from pipeline.depth.compare.contenders import Contenders
from pipeline.depth.compare.critic_choice import choice_flops
from pipeline.depth.compare.depth_report import Calibration, ComparisonReport
from pipeline.depth.compare.measurements import Measurements
from pipeline.depth.compare.methods import POLICY, RIVALS, Method
from pipeline.depth.labels import critic
from pipeline.depth.labels.warm_start_part import Heads
from pipeline.measure.energy import Energy
from pipeline.recipe.depth_parts import PLACEMENTS, compared_depths
from pipeline.recipe.depth_stage import DepthStage
from pipeline.recurrent.config import RecurrentConfig
from pipeline.recurrent.request import DepthRequest
from pipeline.recurrent.shape import shape_of

SPEC = DepthStage.model_validate(
    {
        "kind": "depth", "prompts": "t", "calibration": "t", "held_out": "t", "max_depth": 4,
        "max_tokens": 9, "prompt_depth": 3,
        "pareto": {
            "samples_per_prompt": 2, "transfer": ["other"],
            "baselines": ["fixed_whole", "permuted", "random", "critic", "warm_start", "oracle"],
        },
    }
)  # fmt: skip
NAMES = tuple("abcde")
PROMPT_TOKENS = dict(zip(NAMES, (5, 7, 4, 6, 5), strict=True))


class Bench:
    """A bench on which a completion costs 100 FLOPs and 10 an iteration, and is right from as many
    iterations on as its prompt needs: 1 to 5."""

    def __init__(self, folder: Path) -> None:
        self.spec = SPEC
        self.plan: Any = SimpleNamespace(name="depth", seed=3, spec=SPEC)
        self.requests: list[Any] = []
        self.areas: list[tuple[str, int]] = []
        hardware = SimpleNamespace(rank_threads=1)
        recipe = SimpleNamespace(hardware=hardware, model=SimpleNamespace(dtype="float32"))
        self.ctx: Any = SimpleNamespace(
            work=folder,
            plan=SimpleNamespace(device="cpu", recipe=recipe),
            console=SimpleNamespace(log=lambda _: None),
        )
        self.looks = 0

    def prompts(self, entry: str, size: int) -> list[Any]:
        return [SimpleNamespace(id=name, columns={}) for name in NAMES]

    def call(self, function: Any, job: Any, folder: Path, tokens: Any) -> Any:
        assert function.__name__ == "expected_accuracy"
        assert [len(prompt) for prompt in tokens] == list(PROMPT_TOKENS.values())
        self.looks += 1
        return [[float(depth >= need) for depth in range(1, 5)] for need in range(1, 6)]

    def measure(self, model: Path, prompts: Any, requests: Any, *, area: str, **_: Any) -> Any:
        self.requests.append(requests)
        self.areas.append((area, len(prompts)))
        names = [prompt.id for prompt in prompts]
        by_name = {
            name: [requests] * 2 if isinstance(requests, DepthRequest) else requests[name]
            for name in names
        }
        depths = np.array([[depth_of(request) for request in by_name[name]] for name in names])
        needs = np.array([[1 + NAMES.index(name)] for name in names])
        groups: list[Any] = [
            SimpleNamespace(
                prompt_id=name,
                samples=[
                    SimpleNamespace(
                        rollout=SimpleNamespace(
                            prompt_tokens=range(PROMPT_TOKENS[name]),
                            group=name,
                            depths=(4,),
                            tokens=(1,),
                            flops=1e9,
                        )
                    )
                ],
            )
            for name in names
        ]
        return Measurement(
            groups=groups,
            answers=Answers(
                correct=(depths >= needs).astype(float),
                iterations=depths,
                tokens=np.ones(depths.shape),
                flops=100 + 10 * depths,
            ),
            energy=Energy(joules=4.0, source="analytic", seconds=1.0),
        )


def depth_of(request: DepthRequest) -> float:
    """A policy's depth falls evenly over the trained prices, from 4 to 1."""
    if request.rule != "policy":
        return float(request.depth)
    low, high = (math.log(price) for price in SPEC.rl.price)
    return 4 - 3 * (request.log_price - low) / (high - low)


@pytest.fixture
def bench(tmp_path: Path) -> Bench:
    config = RecurrentConfig(hidden_size=32, num_attention_heads=2, max_iterations=4)
    config.save_pretrained(tmp_path)
    save_file(critic.Critic(32, 4).state_dict(), tmp_path / critic.CRITIC)
    return Bench(tmp_path)


def contenders_on(folder: Path, *, policies: int = 1) -> Contenders:
    heads = Heads(
        warm=folder,
        labels=folder,
        own_labels=folder,
        critic=folder,
        request_depth=folder,
        losses=folder,
    )
    return Contenders(policies=[folder] * policies, heads=heads)


def measurements_on(bench: Any) -> Measurements:
    contenders = contenders_on(bench.ctx.work)
    with pytest.raises(ValueError, match="this stage made no model 'joint'"):
        contenders.model("joint")
    return Measurements(bench, contenders, entry="t")


def rival(name: str) -> Method:
    (method,) = (method for method in RIVALS if method.name == name)
    return method


def test_every_method_costs_what_the_others_do(bench: Bench) -> None:
    field = measurements_on(bench)
    costs = compared_depths(4)
    places = field.places(POLICY)
    family = field.family(POLICY, places)
    assert len(family) == len(costs) == 7
    for measurement, row, depth in zip(family, field.rows["policy"], costs, strict=True):
        assert measurement.answers.mean_depth == pytest.approx(depth, abs=0.02)
        assert row["placed_depth"] == depth
        assert [group.prompt_id for group in measurement.groups] == list(NAMES)
        right = measurement.answers.iterations >= np.arange(1, 6)[:, None]
        assert measurement.answers.correct.tolist() == right.tolist()  # prompts in their order
    assert set(bench.areas) == {("pareto-t-rl-0", 5)}  # both halves in one go
    assert len(bench.areas) <= 4 + PLACEMENTS + 7


def test_settings_are_placed_on_one_half_and_reported_on_the_other(bench: Bench) -> None:
    field = measurements_on(bench)
    places = ([-1.0] * 7, [1.0] * 7)
    for row in field.family(POLICY, places):
        deep, shallow = row.answers.iterations[1, 0], row.answers.iterations[0, 0]
        assert deep > shallow  # the odd prompts run where the even ones placed them
    assert all(row["log_price"] == 0 for row in field.rows["policy"])


def test_what_borrows_depths_stands_where_the_policy_does(bench: Bench) -> None:
    field = measurements_on(bench)
    places = field.places(POLICY)
    assert field.places(rival("permuted")) == places
    field.family(POLICY, places)
    number = len(bench.areas)
    field.family(rival("permuted"), places)
    assert len(bench.areas) == number + 7  # what the policy did there is lent, not run again


def test_the_critics_choice_is_part_of_its_cost(bench: Bench, tmp_path: Path) -> None:
    field = measurements_on(bench)
    family = field.family(rival("critic"), ([-3.0] * 7, [5.0] * 7))
    shape = shape_of(json.loads((tmp_path / "config.json").read_text()))
    depths = [1, 2, 1, 4, 1]  # odd prompts at a low price: what they need; even ones at a high one
    assert family[0].answers.iterations[:, 0].tolist() == depths
    more = [
        choice_flops(
            tmp_path / critic.CRITIC, shape, prompt_tokens=tokens, prompt_depth=3, depth=depth
        )
        for tokens, depth in zip(PROMPT_TOKENS.values(), depths, strict=True)
    ]
    assert more[0] > more[1] > more[3] > 0  # two iterations waited for, one, none
    plain = 100 + 10 * np.array(depths)
    assert family[0].answers.flops[:, 0] == pytest.approx(plain + np.array(more))
    (row, *_) = field.rows["critic"]
    assert row["flops_per_answer"] == pytest.approx(float(plain.mean() + np.mean(more)))
    assert bench.looks == 1  # at all prompts, for all prices


CALIBRATION = Calibration(
    depth_policy={"depth": 4, "prompt_depth": 3, "segment": 1, "sampled": False},
    depth_calibration=[
        {"budget": 0.3, "log_price": 2.0, "mean_depth": 1.2},
        {"budget": 0.9, "log_price": -2.0, "mean_depth": 3.6},
    ],
    efforts={"low": 0.3},
)


def test_the_document_has_what_is_promised(bench: Any, tmp_path: Path) -> None:
    contenders = contenders_on(tmp_path, policies=5)
    (tmp_path / "out").mkdir()
    document = make(bench, tmp_path / "out", contenders=contenders, calibration=CALIBRATION)
    assert json.loads((tmp_path / "out" / RESULTS_FILE).read_text()) == document
    rivals = {"fixed", "permuted", "random", "critic", "warm_start"}
    assert set(document["gain_at"]) == {"1.25", "1.5", "2"}
    for gains in document["gain_at"].values():
        assert set(gains) == rivals == set(document["hypervolume_difference"])
        for gain in gains.values():
            assert gain["ci_low"] <= gain["gain"] <= gain["ci_high"]
            assert len(gain["by_seed"]) == 5
            assert 0 < gain["p_seeds"] <= 1
        warm = gains["warm_start"]  # the same head here, and so the same rollouts
        assert [warm[key] for key in ("gain", "ci_low", "ci_high")] == pytest.approx([0, 0, 0])
    assert set(document["hypervolume"]) == rivals | {"policy"}
    assert document["seeds"] == [0, 1, 2, 3, 4]
    assert 0 < document["max_saving"] < 1
    assert document["cheapest_depth"] == 1.2
    assert len(document["budgets"]) == 5
    (elsewhere,) = document["transfer"].values()
    assert set(elsewhere["gain_at"]["2"]) == {"fixed"}
    assert len(elsewhere["methods"]["policy, seed 4"]) == 7
    assert ComparisonReport.read(document).document() == document


def test_a_problem_that_some_setting_has_no_score_of_is_left_out_of_all() -> None:
    hull, policy = np.ones((4, 2, 3)), np.ones((2, 4, 3, 3))
    hull[1, 0, 2] = policy[1, 3, 2, 2] = np.nan
    assert scored_everywhere([hull, policy]).tolist() == [True, False, True, False]


def test_need_is_looked_at_where_the_last_stated_depth_is() -> None:
    assert compared_depths(4)[largest_stated(SPEC)] == 2.0
    shallow = SPEC.model_copy(update={"max_depth": 2})
    assert compared_depths(2)[largest_stated(shallow)] == 1.5


def test_the_compared_costs_rise_from_depth_1_to_the_full_depth() -> None:
    for deepest in (2, 3, 4, 8, 32):
        depths = [1.0, *compared_depths(deepest), float(deepest)]
        assert depths == sorted(set(depths))
        assert len(depths) == 9
