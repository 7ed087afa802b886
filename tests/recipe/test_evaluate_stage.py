"""The evaluate stage's keys."""

import pytest

from tests.plan.plans import recipe_with


def test_an_evaluation_runs_at_one_depth() -> None:
    stage = {"kind": "evaluate", "models": ["base"], "prompts": "train"}
    with pytest.raises(ValueError, match="give one of effort and depth"):
        recipe_with({"report": {**stage, "effort": "low", "depth": 3}})
