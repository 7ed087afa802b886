"""Exploration is refused, in words, where nothing can explore."""

from typing import Any

import pytest

from pipeline.plan.explore_mistakes import explore_mistakes
from tests.plan.plans import GRPO, RECURRENT, SCRATCH, recipe_with, refusal

REPORT: dict[str, Any] = {
    "kind": "evaluate", "models": ["base"], "prompts": "train", "max_tokens": 64,
    "explore": {"paths": 4, "noise": 0.1},
}  # fmt: skip


def mistakes(device: str = "cpu", **sections: Any) -> list[str]:
    recipe = recipe_with({"report": REPORT}, **sections)
    return list(explore_mistakes(recipe, "report", recipe.stages["report"], device=device))


@pytest.mark.parametrize("engine", ["native", "auto"])
def test_a_recurrent_model_in_the_native_engine_explores(engine: str) -> None:
    assert mistakes(model=RECURRENT, hardware={"engine": engine}) == []


def test_vllm_and_dense_models_are_refused() -> None:
    (vllm,) = mistakes(model=RECURRENT)
    assert vllm.startswith("stages.report.explore: vLLM runs one path a token")
    assert "hardware.engine: native" in vllm
    assert mistakes("cuda", model=RECURRENT, hardware={"engine": "auto"}) == [vllm]
    (dense,) = mistakes(model=SCRATCH)
    assert "stages.report.explore: base is a dense model" in dense
    assert vllm in refusal(recipe_with({"report": REPORT}, model=RECURRENT))


def test_stages_that_do_not_explore_are_let_be() -> None:
    plain = {key: value for key, value in REPORT.items() if key != "explore"}
    recipe = recipe_with({"report": plain, "reason": GRPO})
    for name, stage in recipe.stages.items():
        assert list(explore_mistakes(recipe, name, stage, device="cpu")) == []
