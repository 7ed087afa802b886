"""The depth stage's keys: what it reads, and what cannot work."""

from typing import Any

import pytest

from pipeline.plan.plan import make_plan
from pipeline.recipe.depth_stage import DepthStage
from tests.plan.plans import DEPTH, RECURRENT, recipe_with, refusal


def test_a_depth_stage_reads_three_sets_of_prompts_and_maybe_rows() -> None:
    depth = {**DEPTH, "held_out": "heldout", "rows": "train.worked"}
    assert "stages.depth.held_out: there is no 'heldout'" in refusal(
        recipe_with({"depth": depth}, model=RECURRENT)
    )
    plan = make_plan(recipe_with({"depth": {**depth, "held_out": "train"}}, model=RECURRENT))
    roles = [item.role for item in plan.stages[0].inputs]
    assert roles == ["init", "prompts", "calibration", "held_out", "rows"]
    assert "depth" in {i.name for i in make_plan(
        recipe_with({"depth": DEPTH, "export": {"kind": "export", "model": "depth"}},
                    model=RECURRENT)).stages[1].inputs}  # fmt: skip


@pytest.mark.parametrize(
    ("keys", "said"),
    [
        ({"budgets": [0.1, 0.5]}, "must rise from at least 0.25"),
        ({"budgets": [0.5, 0.5]}, "must rise"),
        ({"prompt_depth": 5}, "prompt_depth=5 is over max_depth=4"),
        ({"random_depth": {"lr": 1e-3}}, "name them: rows: PROMPTS.COLUMN"),
        ({"rl": {"price": [2.0, 1.0]}}, "is no range"),
        ({"rl": {"samples_per_prompt": 1}}, "samples_per_prompt"),
        ({"pareto": {"baselines": ["kll"]}}, "kll"),
        ({"joint": {"rounds": 0}}, "joint.rounds"),
        ({"joint": {"kl": -0.1}}, "joint.kl"),
        ({"joint": {"clip": 0.2}}, "joint.clip"),
    ],
)
def test_a_depth_stage_that_cannot_work_is_refused(keys: dict[str, Any], said: str) -> None:
    with pytest.raises(ValueError, match=said):
        recipe_with({"depth": {**DEPTH, **keys}}, model=RECURRENT)


def test_a_joint_phase_is_off_unless_asked_for_and_has_defaults_for_any_depth() -> None:
    def joint(**keys: Any) -> Any:
        plan = make_plan(recipe_with({"depth": {**DEPTH, **keys}}, model=RECURRENT))
        spec = plan.stages[0].spec
        assert isinstance(spec, DepthStage)
        return spec.joint

    assert joint() is None
    assert joint(joint={}).lr == 3e-6
    assert joint(joint={"rounds": 1}).token_steps > 0


def test_a_joint_phase_is_refused_hardware_that_it_cannot_be_split_over() -> None:
    stages = {"depth": {**DEPTH, "joint": {}, "rl": {"prompts_per_step": 3}}}
    three = recipe_with(stages, model=RECURRENT, hardware={"ranks": 5, "sharding": "zero2"})
    assert "stages.depth.joint: 3 prompts x 8 samples cannot be split" in refusal(three)
    for kind in ("zero3", "fsdp2"):
        shared = recipe_with(stages, model=RECURRENT, hardware={"ranks": 2, "sharding": kind})
        assert f"stages.depth.joint: hardware.sharding={kind}" in refusal(shared)
    fine = recipe_with(stages, model=RECURRENT, hardware={"ranks": 2, "sharding": "zero2"})
    assert make_plan(fine).stages
