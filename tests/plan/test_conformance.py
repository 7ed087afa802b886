"""A recipe's values beside R1's."""

from typing import Any

import pytest

from pipeline.plan.conformance import FIRST, SILENT, Field, conformance
from pipeline.recipe.load import load_recipe
from pipeline.recipe.schema import Recipe
from tests.plan.plans import GRPO, SFT, r1, recipe_with


def fields(recipe: Recipe) -> dict[str, Field]:
    return {field.field: field for field in conformance(recipe)}


def named(name: str, *overrides: str) -> dict[str, Field]:
    return fields(load_recipe(name, list(overrides)))


def test_the_shipped_base_is_as_published_but_for_what_its_head_says() -> None:
    """Sizes and lengths of a child are its own; everything else comes from base/r1."""
    found = named("r1-qwen2.5-7b-4n8g")
    other = {name for name, field in found.items() if field.same is False}
    assert other == {
        "stages.cold_start.max_tokens",
        "stages.reason.max_tokens",
        "stages.refit.max_tokens",
        "stages.align.updates",
        "stages.align.reward_model_updates",
        "stages.student.max_tokens",
        "stages.report.max_tokens",
    }


def test_values_that_follow_from_several_keys_are_compared() -> None:
    whole = ["stages.reason.steps=650", "stages.reason.max_tokens=32768"]
    found = named("r1-qwen2.5-7b-4n8g", *whole, "stages.align.steps=106")
    assert found["stages.reason.completions_per_rollout"].recipe == 512 * 16
    assert found["stages.reason.updates_between_references"].recipe == 400
    assert found["stages.align.updates"].recipe == 106 * 16
    assert found["stages.align.reward_model_updates"].same
    assert found["stages.reason.max_tokens"].same
    halved = named("r1-qwen2.5-7b-4n8g", "stages.reason.reference_every=null")
    assert halved["stages.reason.updates_between_references"].same is False


def test_a_restart_from_the_base_is_told_from_going_on() -> None:
    content = r1().model_dump(exclude_defaults=True)
    assert fields(r1())["stages.refit.init"].same
    content["stages"]["refit"]["init"] = "reason"
    wrong = fields(Recipe.model_validate(content))["stages.refit.init"]
    assert wrong.same is False
    assert (wrong.recipe, wrong.published) == ("reason (RL-1)", "base")


@pytest.mark.parametrize(
    ("hub", "lr", "same"),
    [
        ("Qwen/Qwen2.5-Math-1.5B", 1e-4, True),
        ("Qwen/Qwen2.5-7B", 1e-4, False),
        ("Qwen/Qwen2.5-7B", 8e-5, True),
        ("meta-llama/Llama-3.1-8B", 5e-5, True),
        ("meta-llama/Llama-3.1-8B", 8e-5, False),
        ("Qwen/Qwen2.5-0.5B", 1e-4, False),
        ("someone/unknown", 1e-4, False),
    ],
)
def test_a_students_rate_is_that_of_its_size(hub: str, lr: float, same: bool) -> None:
    student: dict[str, Any] = {
        "kind": "distill", "teacher": "base", "student": {"hub": hub}, "rows": "train.worked",
        "lr": lr,
    }  # fmt: skip
    assert fields(recipe_with({"s": student}))["stages.s.lr"].same is same


def test_fine_tuning_without_rl_is_a_student() -> None:
    found = named("distill-qwen2.5-7b-1n8g")
    assert found["stages.student.lr"].same
    assert found["stages.student.batch_rows"].published == 64
    beside_rl = fields(recipe_with({"a": SFT, "b": {**GRPO, "init": "a"}}))
    assert beside_rl["stages.a.batch_rows"].published == 128


def test_where_the_paper_is_silent_nothing_is_compared() -> None:
    found = named("r1-zero")
    assert found["stages.zero.lr_schedule"].published == SILENT
    assert found["stages.zero.lr_schedule"].same is None
    assert found["stages.zero.updates"].published == 10_400  # R1-Zero's are stated, RL-1's are not
    assert "updates" not in FIRST


def test_every_shipped_recipe_can_be_compared() -> None:
    for name in ("quickstart", "depth-tiny", "smollm2-135m-steps", "lora-qwen2.5-1.5b-1n1g"):
        for field in conformance(load_recipe(name)):
            assert field.source
            assert field.document()["field"].startswith("stages.")
