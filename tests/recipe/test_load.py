"""Recipes: inheritance, overrides, and what every mistake is told."""

import os
from pathlib import Path

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from pipeline.recipe.dump import dump_recipe
from pipeline.recipe.grpo_stage import GrpoStage
from pipeline.recipe.load import load_recipe
from pipeline.recipe.places import recipe_path
from pipeline.recipe.recipe_errors import RecipeError, did_you_mean
from pipeline.recipe.routing import judges
from pipeline.recipe.schema import Recipe
from pipeline.recipe.sft_stage import SftStage

BASE = """
name: small
model: {scratch: {hidden: 32, layers: 1, heads: 1, mlp: 64}}
prompts:
  train: {task: swaps, size: 10, difficulty: [1, 2]}
rewards:
  answer: {use: "builtin:exact_match"}
stages:
  cold: {kind: sft, rows: train.worked, lr: 1e-4}
  reason: {kind: grpo, init: cold, prompts: train, rewards: [answer], steps: 3}
"""


@pytest.fixture
def small(tmp_path: Path) -> str:
    return written(tmp_path / "small.yaml", BASE)


def written(path: Path, text: str) -> str:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    return str(path)


def grpo(recipe: Recipe) -> GrpoStage:
    stage = recipe.stages["reason"]
    assert isinstance(stage, GrpoStage)
    return stage


def refusal(ref: str, *overrides: str) -> str:
    with pytest.raises(RecipeError) as caught:
        load_recipe(ref, overrides)
    return str(caught.value)


def test_scientific_notation_is_a_number(small: str) -> None:
    stage = load_recipe(small).stages["cold"]
    assert isinstance(stage, SftStage)
    assert stage.lr == 1e-4


def test_overrides_reach_stages_by_name(small: str) -> None:
    recipe = load_recipe(small, ["stages.reason.lr=2e-6", "hardware.ranks=2", "seed=11"])
    assert (grpo(recipe).lr, recipe.hardware.ranks, recipe.seed) == (2e-6, 2, 11)


def test_overrides_take_lists_mappings_and_whole_entries(small: str) -> None:
    recipe = load_recipe(
        small,
        [
            "rewards.short={use: 'builtin:length', args: {limit: 5}}",
            "stages.reason.rewards=[answer, short]",
            "stages.reason.watch={prompts: train}",
        ],
    )
    assert grpo(recipe).rewards == ["answer", "short"]
    assert recipe.rewards["short"].args == {"limit": 5}


def test_a_child_states_only_differences(tmp_path: Path, small: str) -> None:
    child = written(tmp_path / "child.yaml", "defaults: small\nstages: {reason: {steps: 9}}\n")
    recipe = load_recipe(child)
    assert grpo(recipe).steps == 9
    assert recipe.stages["cold"] == load_recipe(small).stages["cold"]


def test_later_defaults_win_and_paths_are_relative_to_the_file(tmp_path: Path) -> None:
    written(tmp_path / "base" / "one.yaml", BASE)
    written(tmp_path / "base" / "two.yaml", "name: two\nseed: 3\n")
    child = written(tmp_path / "child.yaml", "defaults: [base/one, base/two.yaml]\nname: child\n")
    recipe = load_recipe(child)
    assert (recipe.name, recipe.seed) == ("child", 3)


def test_null_removes_an_entry(tmp_path: Path, small: str) -> None:
    child = written(tmp_path / "child.yaml", "defaults: small\nstages: {cold: null}\n")
    assert list(load_recipe(child).stages) == ["reason"]
    assert list(load_recipe(small, ["stages.reason=null"]).stages) == ["cold"]


def test_null_keeps_its_meaning_inside_a_stage(small: str) -> None:
    recipe = load_recipe(small, ["stages.reason.reference_every=null"])
    assert grpo(recipe).reference_every is None


def test_another_kind_replaces_the_stage(tmp_path: Path, small: str) -> None:
    child = written(
        tmp_path / "child.yaml",
        "defaults: small\nstages: {reason: {kind: export, model: cold}}\n",
    )
    assert load_recipe(child).stages["reason"].kind == "export"


def test_another_source_replaces_the_source(small: str) -> None:
    model = load_recipe(small, ["model.hub=some/model"]).model
    assert (model.hub, model.scratch) == ("some/model", None)
    overrides = ["prompts.train.system=Think.", "prompts.train.file=rows.jsonl"]
    prompts = load_recipe(small, overrides).prompts["train"]
    assert (prompts.file, prompts.task, prompts.size) == ("rows.jsonl", None, None)
    assert prompts.system == "Think."


def test_circular_defaults_are_refused(tmp_path: Path) -> None:
    written(tmp_path / "a.yaml", "defaults: b\n")
    text = refusal(written(tmp_path / "b.yaml", "defaults: a\n"))
    assert "b.yaml -> a.yaml -> b.yaml" in text


def test_missing_defaults_file_names_the_folder(tmp_path: Path) -> None:
    text = refusal(written(tmp_path / "a.yaml", "defaults: base/nothing\n"))
    assert "defaults: no file base/nothing" in text
    assert str(tmp_path) in text


def test_rewards_by_source(tmp_path: Path) -> None:
    written(tmp_path / "mine.py", "def f(sample): return 1.0\n")
    written(tmp_path / "base.yaml", BASE)
    child = written(
        tmp_path / "child.yaml",
        "defaults: base\nrewards: {answer: {by_source: {train: 'mine.py:f'}}}\n",
    )
    recipe = load_recipe(child, ["rewards.answer.by_source.more={use: 'builtin:exact_match'}"])
    place = f"{tmp_path / 'mine.py'}:f"
    by_entry = {entry: judge.use for entry, judge in judges(recipe, "answer")}
    assert by_entry == {"train": place, "more": "builtin:exact_match"}
    assert load_recipe(written(tmp_path / "again.yaml", dump_recipe(recipe))) == recipe
    whole = load_recipe(child, ["rewards.answer.use=builtin:exact_match"])
    assert whole.rewards["answer"].by_source is None


def test_rewards_by_source_in_short(tmp_path: Path) -> None:
    written(tmp_path / "mine.py", "def f(sample): return 1.0\n")
    written(tmp_path / "base.yaml", BASE)
    child = written(
        tmp_path / "child.yaml",
        "defaults: base\nrewards: {answer: {train: 'mine.py:f', weight: 0.5}}\n",
    )
    spec = load_recipe(child, ["rewards.answer.more=builtin:exact_match"]).rewards["answer"]
    place = f"{tmp_path / 'mine.py'}:f"
    assert {k: j.use for k, j in spec.routes()} == {"train": place, "more": "builtin:exact_match"}
    assert spec.weight == 0.5
    written(
        tmp_path / "child.yaml",
        "defaults: base\nrewards: {answer: {uses: 'builtin:exact_match'}}\n",
    )
    with pytest.raises(RecipeError, match="unknown key; did you mean use"):
        load_recipe(child)


def test_references_inside_the_recipe_are_filled_in(tmp_path: Path) -> None:
    ref = written(tmp_path / "r.yaml", BASE.replace("steps: 3", "steps: '${seed}'") + "seed: 5\n")
    assert grpo(load_recipe(ref)).steps == 5


def test_an_unknown_reference_is_refused(small: str) -> None:
    assert "Interpolation key 'sead' not found" in refusal(small, "stages.reason.steps=${sead}")


@pytest.mark.parametrize(
    ("override", "parts"),
    [
        ("stages.reason.stepps=4", ("stages.reason.stepps", "did you mean steps?")),
        ("stages.reason.num_samples=1", ("did you mean samples_per_prompt?",)),
        ("stages.reason.learning_rate=1", ("did you mean lr?",)),
        ("prompts.train.answer=final", ("did you mean columns.answer?",)),
        ("stages.reson.lr=1", ("stages.reson", "did you mean reason?")),
        ("stage.reason.lr=1", ("did you mean stages?",)),
        ("stages.reason.lr=fast", ("stages.reason.lr", "expected a number, found 'fast'")),
        ("stages.reason.steps=1.5", ("expected a whole number",)),
        ("stages.reason.steps=-1", ("should be greater than 0, found -1",)),
        ("stages.reason.kind=gpro", ("no kind 'gpro'", "did you mean grpo?")),
        ("stages.reason.variant=drgrpo", ("did you mean dr_grpo?",)),
        ("stages.reason.rewards=[{modell: x}]", ("rewards[0].modell", "did you mean model?")),
        ("stages.reason.rewards=[3]", ("expected text or a mapping, found 3",)),
        ("stages.cold.rows=3", ("stages.cold.rows: expected a list or text, found 3",)),
        ("stages.reason.rewards.0=x", ("is a list; set it whole: stages.reason.rewards=...",)),
        ("stages.reason.lr.x=1", ("stages.reason.lr",)),
        ("stages.reason.samples_per_prompt=1", ("samples_per_prompt=1", "at least 2")),
        ("stages.reason.rewards=[]", ("stages.reason: rewards is empty",)),
        (
            "stages.d={kind: distill, teacher: base, student: {hub: a/b}, rows: train.worked, "
            "mode: on_policy}",
            ("stages.d: steps is missing",),
        ),
        ("stages.reason.top_p=0.9", ("no such key any more", "full distribution", "remove it")),
        ("stages.reason.lr=[1", ("the value is no YAML", "quote it")),
        ("lr", ("write key.path=value",)),
        ("report_to=[tensorbord]", ("did you mean tensorboard?",)),
    ],
)
def test_wrong_overrides_say_where_and_what_to_do(
    small: str, override: str, parts: tuple[str, ...]
) -> None:
    text = refusal(small, override)
    assert text.startswith(f"override {override}: ")
    assert "\n" not in text.strip() or "modell" in override
    for part in parts:
        assert part in text


def test_a_mistake_names_the_file_that_holds_it(tmp_path: Path, small: str) -> None:
    written(tmp_path / "bad.yaml", BASE.replace("steps: 3", "stepz: 3"))
    child = written(tmp_path / "child.yaml", "defaults: bad\nname: child\n")
    lines = refusal(child).splitlines()
    assert (
        f"{tmp_path / 'bad.yaml'}: stages.reason.stepz: unknown key; did you mean steps?" in lines
    )
    assert any(line.endswith("stages.reason.steps: is missing; add it") for line in lines)


def test_a_misspelt_stage_in_a_child_gets_the_real_name(tmp_path: Path, small: str) -> None:
    child = written(tmp_path / "child.yaml", "defaults: small\nstages: {reson: {steps: 9}}\n")
    text = refusal(child)
    assert text.startswith(f"{child}: stages.reson: kind is missing; did you mean reason?")


@pytest.mark.parametrize(
    ("text", "part"),
    [
        ("name: [1\n", "line 2, column 1"),
        ("name: a\nname: b\n", "duplicate key name"),
        ("- a\n", "a recipe is a YAML mapping"),
        ("7\n", "a recipe is a YAML mapping"),
        ("", "name: is missing; add it"),
        ("name: x\nmodel: {path: a, hub: b}\n", "give exactly one of path, hub, gguf, scratch"),
    ],
)
def test_broken_files_are_refused_in_words(tmp_path: Path, text: str, part: str) -> None:
    ref = written(tmp_path / "r.yaml", text)
    refused = refusal(ref)
    assert refused.startswith(f"{ref}: ")
    assert part in refused


@pytest.mark.parametrize(
    ("content", "part"),
    [
        (b"\x8f\x01binary", "is no UTF-8 text (byte 0 is 0x8f)"),
        ("name: x\n".encode("utf-16"), "is no UTF-8 text (byte 0 is 0xff)"),
        ("name: käse\n".encode("latin-1"), "is no UTF-8 text (byte 7 is 0xe4)"),
        (b"name: \x01\n", "a recipe is a YAML mapping"),
    ],
)
def test_files_that_hold_no_recipe(tmp_path: Path, content: bytes, part: str) -> None:
    path = tmp_path / "x.yaml"
    path.write_bytes(content)
    with pytest.raises(RecipeError) as caught:
        load_recipe(str(path))
    assert part in str(caught.value)
    assert len(str(caught.value).splitlines()) == 1


def test_what_is_there_and_no_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "folder").mkdir()
    (tmp_path / "folder" / "mine.yaml").write_text("")
    (tmp_path / "link.yaml").symlink_to("gone.yaml")
    os.mkfifo(tmp_path / "pipe.yaml")
    says = {
        "folder": "folder is a folder; name a YAML file, such as folder/mine.yaml",
        "": "'' names no recipe file",
        ".": "'.' names no recipe file",
        "link.yaml": "link.yaml links to gone.yaml",
        "pipe.yaml": "is no file that can be read twice",
        "x" * 300: "no such recipe file",
        "a\0b": "no such recipe file",
        "folder/mine.yml": "no such recipe file; did you mean mine.yaml?",
        "nowhere/mine.yml": "no such recipe file; shipped",
    }
    for ref, part in says.items():
        with pytest.raises(RecipeError) as caught:
            load_recipe(ref)
        assert part in str(caught.value)


def test_an_unknown_recipe_lists_the_shipped_ones() -> None:
    text = refusal("quickstrat")
    assert "did you mean quickstart?" in text


def test_shipped_recipes_are_found_by_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert recipe_path("quickstart").name == "quickstart.yaml"
    assert recipe_path("recipes/quickstart.yaml") == recipe_path("quickstart")
    assert recipe_path("base/r1").name == "r1.yaml"


def test_a_dumped_recipe_loads_back_equal(tmp_path: Path, small: str) -> None:
    recipe = load_recipe(
        small,
        [
            "stages.reason.reference_every=null",
            "stages.reason.rewards=[answer, {model: cold, last_fraction: 0.5}]",
            "prompts.gym={gym: leg_counting, size: 3, options: {min_animals: 2}}",
            "stages.harvest={kind: reject, policy: reason, prompts: train, rewards: [answer],"
            " language: null}",
        ],
    )
    assert load_recipe(written(tmp_path / "dump.yaml", dump_recipe(recipe))) == recipe


@settings(deadline=None)
@example(text="0E0", lr=1.0)
@given(text=st.text(min_size=1), lr=st.floats(min_value=1e-30, max_value=1e30))
def test_dumping_keeps_any_text_and_number(
    tmp_path_factory: pytest.TempPathFactory, text: str, lr: float
) -> None:
    recipe = Recipe.model_validate(
        {
            "name": "x",
            "model": {"hub": "a/b", "chat_template": text},
            "stages": {"a": {"kind": "sft", "rows": "t.answer", "lr": lr}},
        }
    )
    ref = written(tmp_path_factory.mktemp("dump") / "x.yaml", dump_recipe(recipe))
    assert load_recipe(ref) == recipe


@pytest.mark.parametrize("text", ["${name}", "\\${name}", "\\\\${name}", "a ${b} \\${c}"])
def test_dumping_keeps_what_looks_like_a_reference(tmp_path: Path, text: str) -> None:
    recipe = Recipe.model_validate(
        {"name": "x", "model": {"hub": "a/b", "chat_template": text}, "stages": {}}
    )
    assert load_recipe(written(tmp_path / "x.yaml", dump_recipe(recipe))) == recipe


def test_did_you_mean_is_silent_without_a_near_name() -> None:
    assert did_you_mean("zzz", ["steps", "lr"]) == ""
    assert did_you_mean("step", ["steps", "lr"]) == "; did you mean steps?"


@pytest.mark.parametrize(
    "scratch",
    [
        "{hidden: 64, heads: 2, mlp: 96, layers: 2}",
        "{hidden: 64, heads: 2, mlp: 96, core: 1, iterations: 3}",
    ],
)
def test_a_scratch_model_survives_a_dump(tmp_path: Path, scratch: str) -> None:
    path = tmp_path / "mine.yaml"
    path.write_text(
        f"name: mine\nmodel: {{scratch: {scratch}}}\n"
        "prompts: {p: {task: sums, size: 9, difficulty: [1, 2]}}\n"
        "stages: {s: {kind: sft, rows: p.worked, random_depths: {high: 3}}}\n"
    )
    recipe = load_recipe(str(path))
    (tmp_path / "again.yaml").write_text(dump_recipe(recipe))
    assert load_recipe(str(tmp_path / "again.yaml")) == recipe


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ("model.scratch.layers=3", "exactly one of layers, core"),
        ("model.scratch.iterations=9", "iterations=9 is over max_iterations=8"),
        ("stages.s.random_depths.low=4", "each depth from 1 to `high` is drawn alike"),
    ],
)
def test_settings_of_recurrent_models_that_contradict(
    tmp_path: Path, change: str, says: str
) -> None:
    path = tmp_path / "mine.yaml"
    path.write_text(
        "name: mine\nmodel: {scratch: {hidden: 64, heads: 2, mlp: 96, core: 1}}\n"
        "prompts: {p: {task: sums, size: 9, difficulty: [1, 2]}}\n"
        "stages: {s: {kind: sft, rows: p.worked, random_depths: {high: 3}}}\n"
    )
    with pytest.raises(RecipeError, match=says):
        load_recipe(str(path), [change])
