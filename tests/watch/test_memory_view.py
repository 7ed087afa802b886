"""The layouts that a plan compares."""

import pytest

from pipeline.plan.estimate import estimate
from pipeline.plan.plan import make_plan
from pipeline.recipe.load import load_recipe
from pipeline.watch.memory_view import layouts_document, memory_lines


@pytest.mark.parametrize("chosen", ["separate", "colocated"])
def test_both_layouts_are_told(chosen: str) -> None:
    recipe = load_recipe("lora-qwen2.5-1.5b-1n1g", [f"hardware.layout={chosen}"])
    plan = make_plan(recipe)
    guess = estimate(recipe, device=plan.device)
    layouts = layouts_document(plan, guess)
    assert layouts is not None
    assert layouts["separate"]["gpus"] == 2
    assert layouts["colocated"]["gpus"] == 1
    assert guess.gpus == layouts[chosen]["gpus"]
    *_, line = memory_lines(plan, guess)
    assert line.startswith(f"layout {chosen}: {guess.gpus} GPU(s)")
