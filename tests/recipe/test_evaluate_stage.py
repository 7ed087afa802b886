"""The evaluate stage's keys."""

import pytest

from pipeline.recipe.evaluate_stage import EvaluateStage, Explore
from pipeline.recipe.recipe_errors import mistakes
from tests.plan.plans import GRPO, SFT, recipe_with


def test_an_evaluation_runs_at_one_depth() -> None:
    stage = {"kind": "evaluate", "models": ["base"], "prompts": "train"}
    with pytest.raises(ValueError, match="give one of effort and depth"):
        recipe_with({"report": {**stage, "effort": "low", "depth": 3}})


def test_exploration_has_its_bounds() -> None:
    stage = {"kind": "evaluate", "models": ["base"], "prompts": "train"}

    def explored(depth: int | None = None, **explore: float) -> object:
        given = {**stage, "depth": depth, "explore": {"paths": 4, "noise": 0.1} | explore}
        report = recipe_with({"report": given}).stages["report"]
        assert isinstance(report, EvaluateStage)
        return report.explore

    assert explored() == Explore(paths=4, noise=0.1, keep=0.5)
    assert explored(depth=2, keep=1.0) == Explore(paths=4, noise=0.1, keep=1.0)
    for wrong, key in (
        ({"paths": 0}, "explore.paths"),
        ({"noise": -0.1}, "explore.noise"),
        ({"noise": float("nan")}, "explore.noise"),
        ({"keep": 0.0}, "explore.keep"),
        ({"keep": 1.1}, "explore.keep"),
    ):
        with pytest.raises(ValueError, match=key):
            explored(**wrong)
    with pytest.raises(ValueError, match="needs a depth of at least 2"):
        explored(depth=1)


def test_what_is_trained_on_does_not_explore() -> None:
    explore = {"paths": 4, "noise": 0.1}
    for name, stage in {"grpo": GRPO, "sft": SFT}.items():
        with pytest.raises(ValueError, match="extra_forbidden") as caught:
            recipe_with({name: {**stage, "explore": explore}})
        (line,) = (m.text for m in mistakes(caught.value, {}))  # type: ignore[arg-type]
        assert line == (
            "no key of this stage; it is for evaluate stages alone: what is learned from must "
            "replay, as one path"
        )
