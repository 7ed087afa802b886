"""Simulated steps against closed forms and against steps that were measured."""

import math
from dataclasses import replace
from typing import Any

import pytest

from pipeline.plan.simulate.cluster import Layout, last_verdict, lengths_of, simulated
from pipeline.plan.simulate.costs import Costs, costs_of
from pipeline.plan.simulate.failures import best_interval_s, expected_s, with_failures
from pipeline.plan.simulate.forecast import forecasts, layout_of, scaled
from pipeline.plan.stage_plan import PlanError
from pipeline.plan.threads import with_threads
from pipeline.recipe.grpo_stage import GrpoStage
from pipeline.recipe.load import load_recipe
from pipeline.recipe.stage_work import prompt_reads
from tests.plan.plans import GRPO, SFT, recipe_with

COSTS = Costs(
    step_s=0.01,
    token_s=0.001,
    prefill_token_s=0.0001,
    train_token_s=0.002,
    verify_s=0.0,
    sync_s=1.5,
    checkpoint_s=10.0,
    restart_s=100.0,
    source="a test",
)
EVEN = Layout(
    engines=4,
    ranks=2,
    verifiers=1,
    max_sequences=64,
    prompts=8,
    samples=4,
    prompt_tokens=32,
    mean_tokens=50,
    max_tokens=100,
    sigma=0.0,
)


def closed(layout: Layout, costs: Costs) -> tuple[float, float]:
    """Seconds of generation and of training without variance, where groups divide evenly."""
    running = layout.prompts * layout.samples // layout.engines
    waves = -(-running // layout.max_sequences)
    assert running % waves == 0
    at_once = running // waves
    reads = prompt_reads(layout.prompt_tokens, samples=layout.samples) * running / layout.samples
    generation = reads * costs.prefill_token_s
    generation += waves * layout.mean_tokens * (costs.step_s + costs.token_s * at_once)
    rows = layout.prompts * layout.samples / layout.ranks
    tokens = rows * (layout.mean_tokens + layout.prompt_tokens / layout.samples)
    return generation, tokens * costs.train_token_s


@pytest.mark.parametrize("changes", [{}, {"engines": 2}, {"max_sequences": 4}, {"ranks": 8}])
def test_without_variance_a_step_is_the_closed_form(changes: dict[str, int]) -> None:
    layout = replace(EVEN, **changes)
    generation, training = closed(layout, COSTS)
    turns = simulated(layout, COSTS, staleness=0, steps=5, seed=1)
    assert turns.step_s == pytest.approx(COSTS.sync_s + generation + training)
    ahead = simulated(layout, COSTS, staleness=1, steps=5, seed=1)
    assert ahead.step_s == pytest.approx(COSTS.sync_s + max(generation, training))
    assert turns.engine_share == pytest.approx(generation / turns.step_s)
    assert turns.trainer_share == pytest.approx(training / turns.step_s)


def test_verification_overlaps_generation_until_workers_are_few() -> None:
    slow = replace(COSTS, verify_s=0.5)
    generation, training = closed(EVEN, COSTS)
    course = simulated(EVEN, slow, staleness=0, steps=4, seed=1)
    assert course.step_s == pytest.approx(COSTS.sync_s + generation + 32 * 0.5 + training)
    assert course.bottleneck == "verification"
    many = simulated(replace(EVEN, verifiers=32), slow, staleness=0, steps=4, seed=1)
    assert many.step_s == pytest.approx(COSTS.sync_s + generation + 0.5 + training)
    assert last_verdict([0.0, 1.0, 2.0], workers=1, each_s=1.0) == 3.0


def test_lengths_are_log_normal_and_cut() -> None:
    spread = replace(EVEN, sigma=0.8, prompts=2000, max_tokens=10**6)
    drawn = lengths_of(spread, seed=1, step=0)
    assert sum(drawn) / len(drawn) == pytest.approx(50, rel=0.05)
    logs = [math.log(tokens) for tokens in drawn if tokens > 5]
    mean = sum(logs) / len(logs)
    assert math.sqrt(sum((x - mean) ** 2 for x in logs) / len(logs)) == pytest.approx(0.8, rel=0.1)
    assert max(lengths_of(replace(spread, max_tokens=80), seed=1, step=0)) == 80
    assert drawn != lengths_of(spread, seed=1, step=1)
    assert drawn == lengths_of(spread, seed=1, step=0)


def test_variance_makes_engines_wait_for_the_longest() -> None:
    spread = replace(EVEN, sigma=0.8, engines=8, max_tokens=10_000)
    course = simulated(spread, replace(COSTS, train_token_s=0), staleness=0, steps=8, seed=1)
    assert course.engine_share < 0.75
    assert course.bottleneck == "longest sequences"


def failing(**changes: Any) -> float:
    settings: dict[str, Any] = {
        "steps": 20_000, "step_s": 10.0, "repeated_share": 1.0, "every": 20, "checkpoint_s": 10.0,
        "restart_s": 100.0, "mtbf_s": 4_000.0, "seed": 1,
    }  # fmt: skip
    return with_failures(**{**settings, **changes}).total


def test_failures_cost_what_daly_expects() -> None:
    guess = expected_s(200_000, interval_s=200, checkpoint_s=10, restart_s=100, mtbf_s=4_000)
    runs = [failing(seed=seed) for seed in range(8)]
    assert sum(runs) / 8 == pytest.approx(guess, rel=0.01)
    assert failing(mtbf_s=math.inf) == 20_000 * 10 + 999 * 10


def test_youngs_interval_is_the_best_of_those_tried() -> None:
    best = round(best_interval_s(checkpoint_s=10.0, mtbf_s=4_000.0) / 10.0)
    assert best == 28
    mean = {
        every: sum(failing(every=every, seed=seed) for seed in range(8))
        for every in (best // 4, best, best * 4)
    }
    assert min(mean, key=lambda every: mean[every]) == best


def test_journaled_rollouts_are_not_sampled_again() -> None:
    """Where training is a tenth of a step, so is what a death repeats."""
    whole = with_failures(
        steps=5_000, step_s=10, repeated_share=1.0, every=100, checkpoint_s=0, restart_s=0,
        mtbf_s=5_000, seed=1,
    )  # fmt: skip
    replayed = with_failures(
        steps=5_000, step_s=10, repeated_share=0.1, every=100, checkpoint_s=0, restart_s=0,
        mtbf_s=5_000, seed=1,
    )  # fmt: skip
    assert replayed.total - 50_000 < 0.5 * (whole.total - 50_000)


def measured_layout(name: str, overrides: list[str], **changes: Any) -> tuple[Layout, Costs]:
    recipe = with_threads(load_recipe(name, overrides), device="cpu", cores=2)
    stage_name, stage = next((n, s) for n, s in recipe.stages.items() if isinstance(s, GrpoStage))
    costs = costs_of(recipe, stage_name, device="cpu")
    assert costs is not None
    return replace(layout_of(recipe, stage_name, stage), **changes), costs


@pytest.mark.parametrize(("threads", "step_s"), [(1, 2.18), (2, 1.76)])
def test_the_quickstarts_step_is_what_was_measured(threads: int, step_s: float) -> None:
    """Seconds a step at equal work, native engine (tests/bench/README.md, against TRL alone)."""
    each = [f"hardware.threads_per_{kind}={threads}" for kind in ("rank", "engine")]
    layout, costs = measured_layout("quickstart", each, sigma=0.2)
    course = simulated(layout, costs, staleness=0, steps=6, seed=1)
    assert course.step_s == pytest.approx(step_s, rel=0.15)


def test_smollm2s_step_is_what_was_measured() -> None:
    """Two threads each: generation took 7.6 seconds (the same place); training 6.6 of the second to
    the sixth step, over the share of groups that were trained on, for which rewards must differ."""
    two = ["hardware.threads_per_rank=2", "hardware.threads_per_engine=2"]
    layout, costs = measured_layout("smollm2-135m-cpu", two, sigma=0.0, mean_tokens=3.0)
    course = simulated(layout, costs, staleness=0, steps=4, seed=1)
    assert course.steady[0].generating == pytest.approx(7.6, rel=0.15)
    assert course.training_s == pytest.approx(6.6, rel=0.15)


def test_sizes_keep_the_recipes_ratio_and_divide_the_batch() -> None:
    recipe = load_recipe("r1-qwen2.5-7b-4n8g")
    stage = recipe.stages["reason"]
    assert isinstance(stage, GrpoStage)
    large = scaled(recipe, stage, 1024)
    assert (large.ranks, large.engines) == (512, 511)
    assert stage.completions_per_step // stage.updates_per_step % large.ranks == 0
    assert scaled(recipe, stage, 3).engines == 1
    with pytest.raises(PlanError, match="need 3 GPUs"):
        scaled(recipe, stage, 2)


def test_colocated_trainers_have_every_gpu_and_are_never_behind() -> None:
    recipe = load_recipe("lora-qwen2.5-1.5b-1n1g")
    rows, _ = forecasts(recipe, [1, 6])
    assert [(row.gpus, row.ranks, row.engines, row.staleness) for row in rows] == [
        (1, 1, 1, 0),
        (6, 4, 4, 0),  # 256 completions are not divided by five or six
    ]
    assert rows[0].step_s > rows[1].step_s


def test_more_gpus_never_take_longer_and_a_stage_is_needed() -> None:
    recipe = load_recipe("r1-zero")
    rows, costs = forecasts(recipe, [8, 64])
    assert [row.gpus for row in rows] == [8, 8, 64, 64]
    assert rows[0].step_s > rows[2].step_s
    assert rows[1].step_s <= rows[0].step_s
    assert "assumed" in costs["zero"].source
    with pytest.raises(PlanError, match="no stage of kind grpo"):
        forecasts(recipe_with({"a": SFT}), [8])
    unknown = recipe_with({"a": GRPO}, model={"hub": "someone/model"})
    with pytest.raises(PlanError, match="--costs"):
        forecasts(unknown, [8])
