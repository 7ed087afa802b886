"""Fingerprints: they follow what decides a result, and nothing else."""

import json
from pathlib import Path
from typing import Any

import pytest

from pipeline.plan.identity import model_identity, spec_identity
from pipeline.plan.plan import make_plan
from pipeline.plan.stage_plan import StagePlan
from pipeline.recipe.model_source import ModelSource
from pipeline.recipe.sft_stage import SftStage
from pipeline.recurrent.explore import RIGHT_HEAD
from tests.plan.plans import (
    GRPO,
    SCRATCH,
    TWO_ENTRIES,
    fingerprint,
    model_folder,
    r1,
    recipe_with,
    routed,
)


@pytest.fixture(autouse=True)
def one_core(monkeypatch: pytest.MonkeyPatch) -> None:
    """Threads that a recipe leaves to us are the same on any machine."""
    monkeypatch.setenv("OMP_NUM_THREADS", "1")


def test_fingerprints_follow_the_route_that_a_stage_takes() -> None:
    before = fingerprint(routed({"a": GRPO}), "a")
    plain = recipe_with(
        {"a": GRPO}, prompts=TWO_ENTRIES, rewards={"answer": {"use": "builtin:exact_match"}}
    )
    assert fingerprint(plain, "a") == before
    assert fingerprint(routed({"a": GRPO}, held_out="builtin:exact_match"), "a") == before
    assert fingerprint(routed({"a": GRPO}, train="builtin:math_answer"), "a") != before


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
    shape = {name: size for name, size in SCRATCH["scratch"].items() if name != "layers"}
    recurrent = {"scratch": {**shape, "core": 1}}
    vllm, native = (
        make_plan(r1(model=recurrent, hardware={"engine": engine})).fingerprints
        for engine in ("vllm", "native")
    )
    same = {name for name in vllm if vllm[name] == native[name]}
    assert same == {"base", "train", "cold_start"}
    for kind in ({"kind": "evaluate", "models": ["base"]}, {"kind": "reject", "policy": "base"}):
        rewards = {"rewards": ["answer"]} if kind["kind"] == "reject" else {}
        stages = {"a": {**kind, **rewards, "prompts": "train"}}
        one, other = (
            recipe_with(stages, model=recurrent, hardware={"engine": engine})
            for engine in ("vllm", "native")
        )
        assert fingerprint(one, "a") != fingerprint(other, "a")


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


HELPERS = {
    "beside.py": "import beside",
    "words.py": "from words import count",
    "package/__init__.py": "import package",
    "package/inner.py": "from package import inner",
    "package/deep/leaf.py": "import package.deep.leaf as leaf",
    "late.py": "def late():\n    import late",
}


@pytest.mark.parametrize("helper", HELPERS)
@pytest.mark.parametrize("ref", ["my/reward.py:score", "reward_module:score"])
def test_fingerprints_follow_what_a_reward_imports_from_its_folder(
    helper: str, ref: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    folder = tmp_path / "my" if "/" in ref else tmp_path
    for name in HELPERS:
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("x = 1")
    stem = "reward.py" if "/" in ref else "reward_module.py"
    (folder / stem).write_text(f"{HELPERS[helper]}\ndef score(sample): return 1.0\n")

    def reason() -> str:
        return fingerprint(recipe_with({"a": GRPO}, rewards={"answer": {"use": ref}}), "a")

    before = reason()
    (folder / "stranger.py").write_text("x = 2")  # nothing imports it
    assert reason() == before
    (folder / helper).write_text("x = 2")
    assert reason() != before


def test_fingerprints_follow_helpers_of_helpers_and_circles(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "reward.py").write_text("import one\ndef score(sample): return 1.0\n")
    (tmp_path / "one.py").write_text("import two")
    (tmp_path / "two.py").write_text("import one\nimport torch")
    recipe = recipe_with({"a": GRPO}, rewards={"answer": {"use": "reward.py:score"}})
    before = fingerprint(recipe, "a")
    (tmp_path / "two.py").write_text("import one\nlimit = 3")
    assert fingerprint(recipe, "a") != before


def test_fingerprints_follow_every_file_and_data_folder(tmp_path: Path) -> None:
    (tmp_path / "folder").mkdir()
    rows = [tmp_path / "a.jsonl", tmp_path / "b.jsonl", tmp_path / "folder" / "train.jsonl"]
    for path in rows:
        path.write_text('{"question": "q", "answer": "a"}\n')

    def prints() -> list[str]:
        sources = [{"file": str(tmp_path / "*.jsonl")}, {"hub": str(tmp_path / "folder")}]
        return [
            make_plan(recipe_with({"a": GRPO}, prompts={"train": source})).fingerprints["train"]
            for source in sources
        ]

    several, folder = prints()
    rows[1].write_text('{"question": "q", "answer": "b"}\n')
    assert prints()[0] != several
    assert prints()[1] == folder
    rows[2].write_text('{"question": "q", "answer": "b"}\n')
    assert prints()[1] != folder


def test_a_key_that_a_stage_leaves_null_says_nothing() -> None:
    """A run of before the key went on with its evaluations, and goes on with them."""
    report = {"kind": "evaluate", "models": ["base"], "prompts": "train", "max_tokens": 64}
    plain = spec_identity(recipe_with({"report": report}).stages["report"])
    assert "explore" not in plain
    assert plain["depth"] is None
    explore = {"paths": 4, "noise": 0.1}
    explored = spec_identity(
        recipe_with({"report": {**report, "explore": explore}}).stages["report"]
    )
    assert explored == {**plain, "explore": {**explore, "keep": 0.5}}


def test_the_head_that_judges_paths_is_part_of_a_model(tmp_path: Path) -> None:
    folder = model_folder(tmp_path / "model")
    source = ModelSource(path=str(folder))
    before = model_identity(source)
    (folder / RIGHT_HEAD).parent.mkdir()
    (folder / RIGHT_HEAD).write_text("a head")
    after = model_identity(source)
    assert after.pop("right_head")
    assert after == before


def test_what_a_depth_stage_compares_decides_its_last_part_alone() -> None:
    depth = {"kind": "depth", "prompts": "train", "calibration": "train", "held_out": "train"}
    depth |= {"max_depth": 4, "max_tokens": 9}
    shape = {name: size for name, size in SCRATCH["scratch"].items() if name != "layers"}
    recurrent = {"scratch": {**shape, "core": 1, "max_iterations": 4}}

    def planned(**changes: Any) -> StagePlan:
        (stage,) = make_plan(recipe_with({"a": depth | changes}, model=recurrent)).stages
        return stage

    before = planned()
    compared, learned = planned(pareto={"baselines": ["labels"]}), planned(rl={"steps": 3})
    assert compared.fingerprint != before.fingerprint
    assert compared.work_fingerprint == before.work_fingerprint
    assert learned.work_fingerprint != before.work_fingerprint
    (other,) = make_plan(recipe_with({"a": GRPO})).stages
    assert other.work_fingerprint == other.fingerprint
