"""Which model a stage starts from, and how deep it can run."""

import json
from pathlib import Path

import pytest

from pipeline.plan.plan import make_plan
from tests.plan.plans import DEPTH, RECURRENT, SCRATCH, SFT, model_folder, recipe_with, refusal


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


def test_a_split_makes_a_dense_model_recurrent() -> None:
    model = {"hub": "a/b", "split": [2, 4, 2]}
    assert make_plan(recipe_with({"depth": DEPTH}, model=model)).stages
    said = refusal(recipe_with({"depth": DEPTH}, model={**model, "max_iterations": 3}))
    assert "over the max_iterations=3" in said
    said = refusal(recipe_with({"depth": DEPTH}, model={**model, "copy_core": True}))
    assert "over the max_iterations=2" in said
    untied = {**model, "tie_iterations": False, "max_iterations": 2}
    said = refusal(recipe_with({"depth": DEPTH}, model=untied))
    assert "over the max_iterations=2" in said
    for wrong, reason in (
        ({**untied, "max_iterations": 3}, "cannot share out the 4 core layers"),
        ({"hub": "a/b", "tie_iterations": False}, "is for a model that split makes"),
        ({"hub": "a/b", "copy_core": True}, "is for a model that split makes"),
        ({**untied, "copy_core": True}, "untied ones share out"),
        ({**model, "copy_core": True, "max_iterations": 1}, "copies nothing"),
        ({"hub": "a/b", "split": [2, 0, 2]}, "leaves the core without a layer"),
        ({**SCRATCH, "split": [0, 1, 0]}, "a scratch model has its own"),
        ({"hub": "a/b", "max_iterations": 3}, "is for a model that split makes"),
    ):
        with pytest.raises(ValueError, match=reason):
            recipe_with({"depth": DEPTH}, model=wrong)
