"""One model under another recipe's evaluation."""

from typing import Any

import pytest

from pipeline.errors import UsageError
from pipeline.recipe.evaluate_stage import EvaluateStage
from pipeline.recipe.schema import Recipe
from pipeline.use.evaluation import checked_depth, evaluation_recipe

DEPTH = {
    "kind": "depth", "prompts": "t", "calibration": "t", "held_out": "t", "max_depth": 4,
    "max_tokens": 9, "temperature": 0.5,
}  # fmt: skip
EVALUATE = {"kind": "evaluate", "models": ["base"], "prompts": "t", "max_tokens": 7, "depth": 2}


def recipe(**stages: Any) -> Recipe:
    return Recipe.model_validate(
        {
            "name": "r",
            "model": {"hub": "a/b", "dtype": "bfloat16"},
            "prompts": {"t": {"task": "lookups", "size": 9, "difficulty": [1, 2]}},
            "stages": stages,
        }
    )


def only(found: Recipe) -> EvaluateStage:
    (stage,) = found.stages.values()
    assert isinstance(stage, EvaluateStage)
    return stage


def test_the_stage_keeps_its_depth_unless_another_is_asked() -> None:
    found = evaluation_recipe(recipe(e=EVALUATE), {"path": "m"}, asked={})
    assert only(found).depth == 2
    assert (found.model.path, found.model.dtype) == ("m", "bfloat16")
    found = evaluation_recipe(recipe(e=EVALUATE), {"path": "m"}, asked={"effort": "low"})
    assert (only(found).depth, only(found).effort) == (None, "low")


def test_a_depth_stages_held_out_prompts_do_as_well() -> None:
    found = evaluation_recipe(recipe(d=DEPTH), {"path": "m"}, asked={"budget": 0.4})
    assert (only(found).max_tokens, only(found).temperature, only(found).budget) == (9, 0.5, 0.4)
    found = evaluation_recipe(recipe(d=DEPTH), {"hub": "m"}, asked={}, engine="native")
    assert found.hardware.engine == "native"


@pytest.mark.parametrize(
    ("stages", "options", "said"),
    [
        ({}, {"asked": {}}, "no evaluate stage"),
        ({"d": DEPTH}, {"asked": {"effort": "most"}}, "effort: Input should be 'low'"),
        ({"d": DEPTH}, {"asked": {"effort": "low", "depth": 2}}, "give one of effort and depth"),
        ({"d": DEPTH}, {"asked": {"budget": 1.5}}, "budget: Input should be less"),
        ({"d": DEPTH}, {"asked": {}, "engine": "fast"}, "engine: Input should be"),
    ],
)
def test_what_cannot_be_evaluated_is_refused(
    stages: dict[str, Any], options: dict[str, Any], said: str
) -> None:
    with pytest.raises(ValueError, match=said):
        evaluation_recipe(recipe(**stages), {"path": "m"}, **options)


def test_a_depth_is_asked_for_in_one_way() -> None:
    nothing = {"effort": None, "budget": None, "depth": None}
    assert checked_depth(nothing) == {}
    assert checked_depth(nothing | {"budget": 0.4}) == {"budget": 0.4}
    with pytest.raises(UsageError, match="give one of effort and budget: each decides"):
        checked_depth(nothing | {"effort": "low", "budget": 0.4})
    with pytest.raises(UsageError, match="depth: Input should be greater than 0"):
        checked_depth({"depth": 0})
