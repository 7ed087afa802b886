"""A probe's miniature of a recipe, and the rates and estimates that follow from what it did."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from pipeline.plan.data_notes import data_notes
from pipeline.plan.estimate import estimate, stage_load
from pipeline.plan.lengths import task_lengths
from pipeline.plan.measured import Measured, PartRate, Rate
from pipeline.plan.plan import make_plan
from pipeline.plan.probe_rates import (
    DepthRun,
    Evaluation,
    depth_rate,
    evaluation_rate,
    training_rate,
)
from pipeline.plan.probe_recipe import EVALUATED_TOKENS, FEW, MANY, STEPS, probe_recipe
from pipeline.plan.speeds import SPEEDS
from pipeline.plan.threads import with_threads
from pipeline.recipe.depth_stage import DepthStage
from pipeline.recipe.load import load_recipe
from pipeline.recipe.schema import Recipe
from pipeline.watch.plan_view import plan_document, plan_text
from tests.plan.plans import GRPO, SFT, r1, recipe_with

THREADS = ["hardware.threads_per_rank=1", "hardware.threads_per_engine=1"]
GRPO_ROWS = [
    {"step_seconds": 9.0, "seconds/training": 3.0, "seconds/generation": 3.0}
    | {"training_tokens": 400.0, "tokens_per_s": 100.0, "rollout_seconds": 5.0}
    | {"completion_tokens": 10.0},
    *(
        {"step_seconds": 4.0, "seconds/training": 1.0, "seconds/generation": 2.0}
        | {"training_tokens": 500.0, "tokens_per_s": 200.0, "rollout_seconds": 2.5}
        | {"completion_tokens": 10.0}
        for _ in range(2)
    ),
]


def nothing_known(**changes: Any) -> Measured:
    return Measured(**{"rates": {}, "run_s": 3.0, "seconds": 60.0, "left_out": {}, **changes})


def hours(recipe: Recipe, measured: Measured | None, stage: str) -> float:
    guess = estimate(recipe, device="cpu", measured=measured)
    (number,) = (one.hours for one in guess.stages if one.name == stage)
    assert number is not None
    return number


@pytest.mark.parametrize("name", ["quickstart", "smollm2-135m-cpu", "r1-qwen2.5-1.5b-1n8g"])
def test_a_miniature_plans_and_keeps_batches(name: str) -> None:
    whole = load_recipe(name)
    probe = probe_recipe(whole)
    assert [stage.kind for stage in make_plan(probe.recipe).stages] == [
        "sft",
        "grpo",
        "evaluate",
        "evaluate",
    ]
    small, large = probe.recipe.stages["grpo"], whole.stages[probe.stands_for["grpo"]]
    assert small.batch_text == large.batch_text.rpartition(", ")[0] + f", {STEPS} times"
    assert stage_load(probe.recipe, "sft").trained_tokens <= 1.1 * (
        stage_load(whole, probe.stands_for["sft"]).trained_tokens
    )
    sampled = sum(stage_load(probe.recipe, name).generated_tokens for name in ("few", "many"))
    longest = whole.stages[probe.stands_for["many"]].longest_completion
    assert sampled <= max(EVALUATED_TOKENS, 4 * (FEW + MANY) * longest)


def test_the_miniature_of_a_whole_flow_has_no_reward_model() -> None:
    probe = probe_recipe(r1())
    assert not probe.recipe.has_reward_model
    assert probe.stands_for["sft"] == "cold_start"


def depth_stage(recipe: Recipe, name: str = "depth") -> DepthStage:
    stage = recipe.stages[name]
    assert isinstance(stage, DepthStage)
    return stage


@pytest.mark.parametrize("name", ["depth-tiny", "depth-smollm2-untied", "depth-huginn-3.5b-1n8g"])
def test_two_small_depth_stages_have_every_part_of_the_whole(name: str) -> None:
    probe = probe_recipe(load_recipe(name)).recipe
    assert [s.name for s in make_plan(probe).stages if s.kind == "depth"] == [
        "depth_few",
        "depth_many",
    ]
    whole = depth_stage(load_recipe(name)).part_completions
    few, many = (depth_stage(probe, f"depth_{n}").part_completions for n in ("few", "many"))
    for part, count in whole.items():
        assert (count > 0) == (many[part] > 0) or part == "4-right"
        assert not count or not many[part] or count == many[part] or few[part] < many[part] < count
    assert sum(many.values()) < 0.4 * sum(whole.values())


def test_parts_of_a_depth_stage_are_planned_to_take_what_they_take() -> None:
    """Seconds that follow a law are given back: parts that start once, once a seed, or once a
    method, and take longer the more completions they make."""
    recipe = load_recipe("depth-tiny")
    probe = probe_recipe(recipe).recipe
    whole = depth_stage(recipe)
    starts = {"5-rl": whole.rl.seeds, "8-pareto": whole.compared_methods}

    def took(stage: DepthStage) -> dict[str, float]:
        times = {"5-rl": stage.rl.seeds, "8-pareto": stage.compared_methods}
        counts = stage.part_completions
        parts = {name: 2.0 * times.get(name, 1) + 0.01 * n for name, n in counts.items() if n}
        heads = parts.pop("4-")
        rl = parts.pop("5-rl") / stage.rl.seeds
        seeds = {f"5-rl-{n}": rl for n in range(stage.rl.seeds)}
        return {**parts, "4-gate": heads / 2, "4-critic": heads / 2, **seeds}

    few, many = (
        DepthRun(
            stage=(stage := depth_stage(probe, f"depth_{n}")),
            seconds=sum(took(stage).values()) + 9.0,
            parts=took(stage),
            tokens=task_lengths(recipe, "depth").completion or 0.0,
        )
        for n in ("few", "many")
    )
    rate = depth_rate(recipe, "depth", few, many, train_flops_per_s=None)
    assert rate.parts["8-pareto"].start_s == pytest.approx(2.0)
    assert rate.start_s == pytest.approx(9.0)
    measured = nothing_known(rates={"depth": rate})
    assert starts["5-rl"] == 5
    expected = sum(took(whole).values()) + 9.0
    assert hours(recipe, measured, "depth") * 3600 == pytest.approx(expected)
    longer = depth_rate(
        recipe, "depth", *(replace(run, tokens=run.tokens / 2) for run in (few, many)),
        train_flops_per_s=None,
    )  # fmt: skip
    assert hours(recipe, nothing_known(rates={"depth": longer}), "depth") > 1.5 * expected / 3600


def test_a_joint_phase_that_was_measured_counts_once() -> None:
    recipe = load_recipe("depth-tiny", ["stages.depth.joint.rounds=3"])
    part = PartRate(start_s=5.0, completion_s=0.01)
    rate = Rate(kind="depth", stage="depth", start_s=1.0, parts={"6-joint": part})
    joint = depth_stage(recipe).joint
    assert joint is not None
    completions = 3 * 48 * 10 * (joint.token_steps + joint.head_steps)
    assert hours(recipe, nothing_known(rates={"depth": rate}), "depth") * 3600 == pytest.approx(
        1.0 + 2 * 3 * 5.0 + 0.01 * completions
    )


def test_what_cannot_run_by_itself_is_named() -> None:
    prompts = {"kind": "reject", "policy": "base", "prompts": "train", "rewards": ["answer"]}
    probe = probe_recipe(recipe_with({"h": prompts, "a": {"kind": "sft", "rows": "h"}}))
    assert not probe.recipe.stages
    assert probe.left_out == {"sft": "its rows are made by other stages"}
    report = {"kind": "evaluate", "models": ["base"], "prompts": "train"}
    probe = probe_recipe(recipe_with({"a": GRPO, "b": report}))
    assert [*probe.recipe.stages] == ["grpo"]
    assert "evaluate" in probe.left_out


def test_the_first_step_counts_as_starting() -> None:
    recipe = recipe_with({"grpo": GRPO})
    rate = training_rate(recipe, "grpo", GRPO_ROWS, seconds=20.0, stage="reason")
    assert rate is not None
    assert (rate.kind, rate.stage) == ("grpo", "reason")
    assert rate.start_s == pytest.approx(20.0 - 3 * 4.0)
    assert rate.trained_tokens_per_s == pytest.approx(500.0)
    assert rate.generated_tokens_per_s == pytest.approx(200 * 2.5 / 2.0)
    assert rate.besides_s == pytest.approx(4.0 - 1.0 - 2.0)
    assert training_rate(recipe, "grpo", GRPO_ROWS[:1], seconds=20.0, stage="reason") is None
    rows = [{"step_seconds": 2.0, "training_tokens": 100.0}] * 3
    sft = training_rate(recipe_with({"sft": SFT}), "sft", rows, seconds=7.0, stage="cold")
    assert sft is not None
    assert (sft.start_s, sft.trained_tokens_per_s) == (1.0, 50.0)


def test_the_difference_of_two_evaluations_is_their_rate() -> None:
    report = {"kind": "evaluate", "models": ["base"], "prompts": "train"}
    recipe = recipe_with({"many": report})
    few = Evaluation(tokens=100, completion_tokens=10, seconds=3.0)
    many = Evaluation(tokens=400, completion_tokens=10, seconds=6.0)
    rate = evaluation_rate(recipe, "many", few, many, stage="report")
    assert (rate.generated_tokens_per_s, rate.start_s) == (100.0, 2.0)
    warm = evaluation_rate(recipe, "many", replace(few, seconds=9.0), many, stage="report")
    assert (warm.generated_tokens_per_s, warm.start_s) == (pytest.approx(400 / 6), 0.0)


def test_a_stage_is_planned_to_take_what_its_miniature_took() -> None:
    """The same recipe as its own probe: the estimate gives the measured seconds back, whatever
    the assumed rates are."""
    recipe = load_recipe("quickstart", [*THREADS, "stages.reason.watch=null"])
    load = stage_load(recipe, "reason")
    steps = 24
    row = {
        "step_seconds": 7.0, "seconds/training": 3.0, "seconds/generation": 2.0,
        "training_tokens": load.trained_tokens / steps,
        "tokens_per_s": load.generated_tokens / steps / 2.5, "rollout_seconds": 2.5,
        "completion_tokens": 22.0,
    }  # fmt: skip
    rate = training_rate(recipe, "reason", [row] * 3, seconds=3 * 7.0 + 11.0, stage="reason")
    assert rate is not None
    measured = nothing_known(rates={"grpo": rate})
    assert hours(recipe, measured, "reason") * 3600 == pytest.approx(24 * 7.0 + 11.0, rel=0.02)
    assert hours(recipe, measured, "refit") == hours(recipe, None, "refit")


def test_wrong_lengths_of_own_rows_cancel(tmp_path: Path) -> None:
    """The estimate takes half of max_tokens for a row; rates are of rows as the estimate sees them,
    so a stage of ten times the steps takes ten times as long, whatever its rows' length is."""
    (tmp_path / "rows.jsonl").write_text('{"question": "a", "answer": "b"}\n' * 160)
    prompts = {"train": {"file": str(tmp_path / "rows.jsonl")}}
    sft = {"kind": "sft", "rows": "train.answer", "batch_rows": 8, "max_tokens": 1000, "epochs": 2}
    grpo = {**GRPO, "steps": 30, "max_tokens": 1000}
    whole = with_threads(
        recipe_with({"cold": sft, "reason": grpo}, prompts=prompts), device="cpu", cores=2
    )
    probe = probe_recipe(whole).recipe
    steps = [GRPO_ROWS[1]] * STEPS
    rates = {
        name: training_rate(probe, name, steps, seconds=STEPS * 4.0, stage=name)
        for name in ("sft", "grpo")
    }
    measured = nothing_known(rates={name: rate for name, rate in rates.items() if rate})
    assert hours(whole, measured, "reason") * 3600 == pytest.approx(30 * 4.0)
    assert hours(whole, measured, "cold") * 3600 == pytest.approx(40 * 4.0)


def test_rates_stand_for_kindred_kinds_and_others_stay_assumed() -> None:
    recipe = load_recipe("quickstart", THREADS)
    slow = Rate(
        kind="sft",
        stage="cold_start",
        start_s=1.0,
        trained_tokens_per_s=1.0,
        train_flops_per_s=1e6,
    )
    measured = nothing_known(rates={"sft": slow})
    for stage in ("cold_start", "refit", "preference", "student"):
        assert hours(recipe, measured, stage) > 10 * hours(recipe, None, stage)
    assert hours(recipe, measured, "reason") == hours(recipe, None, "reason")
    guess = estimate(recipe, device="cpu", measured=measured)
    assert guess.hours == pytest.approx(sum(s.hours or 0 for s in guess.stages) + 3.0 / 3600)
    assert guess.assumptions[0].startswith("for grpo, reject, evaluate, export: CPU thread")
    assumed = SPEEDS["cpu"]
    other = measured.speed("export", assumed, recipe.hardware, device="cpu")
    assert other == replace(assumed, run_s=3.0)


def test_the_plan_says_what_was_measured() -> None:
    plan = make_plan(load_recipe("quickstart", THREADS))
    rate = Rate(kind="evaluate", stage="report", start_s=2.0, generated_tokens_per_s=1234.0)
    measured = nothing_known(rates={"evaluate": rate}, left_out={"sft": "because"})
    data = data_notes(plan.recipe)
    text = str(plan_text(plan, data, measured=measured))
    assert "estimate from measured rates:" in text
    assert "measured: evaluate (as report): starts in 2.0 s, 1,234 tokens/s sampled" in text
    assert "measured: not sft: because" in text
    document = plan_document(plan, data, measured=measured)["estimate"]["measured"]
    assert document["rates"][0]["generated_tokens_per_s"] == 1234.0
    assert plan_document(plan, data)["estimate"]["measured"] is None
