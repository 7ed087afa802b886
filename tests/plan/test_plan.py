"""Plans: the order of stages, their inputs and their seeds."""

from hypothesis import given
from hypothesis import strategies as st

from pipeline.plan.plan import make_plan, stage_seed
from pipeline.plan.stage_plan import Plan
from pipeline.recipe.stage_base import Input
from tests.plan.plans import GRPO, SFT, r1, recipe_with, refusal


def order(plan: Plan) -> list[str]:
    return [stage.name for stage in plan.stages]


def test_the_recipes_own_order_is_kept() -> None:
    assert order(make_plan(r1())) == list(r1().stages)


def test_inputs_come_first() -> None:
    recipe = recipe_with({"b": {**GRPO, "init": "c"}, "a": SFT, "c": {**SFT, "init": "a"}})
    assert order(make_plan(recipe)) == ["a", "c", "b"]


def test_inputs_are_resolved_with_role_and_column() -> None:
    stages = {stage.name: stage for stage in make_plan(r1()).stages}
    assert stages["refit"].inputs == (
        Input(role="init", name="base"),
        Input(role="rows", name="harvest"),
        Input(role="rows", name="train", column="worked"),
    )
    assert Input(role="reward_model", name="preference") in stages["align"].inputs


def test_a_cycle_is_named_in_full() -> None:
    recipe = recipe_with(
        {
            "first": SFT,
            "a": {**SFT, "init": "c"},
            "b": {**SFT, "init": "a"},
            "c": {**SFT, "init": "b"},
        }
    )
    assert "a -> c -> b -> a" in refusal(recipe)


def test_a_stage_cannot_wait_for_itself() -> None:
    assert "a -> a" in refusal(recipe_with({"a": {**SFT, "init": "a"}}))


def test_every_mistake_is_reported_at_once() -> None:
    recipe = recipe_with({"a": {**SFT, "init": "x"}, "b": {**GRPO, "prompts": "y"}})
    assert len(refusal(recipe).splitlines()) == 2


def test_hub_models_need_no_files() -> None:
    assert order(make_plan(recipe_with({"a": GRPO}, model={"hub": "some/model"}))) == ["a"]


@given(seed=st.integers(), name=st.text())
def test_stage_seeds_fit_in_31_bits(seed: int, name: str) -> None:
    assert 0 <= stage_seed(seed, name) < 2**31
    assert stage_seed(seed, name) == stage_seed(seed, name)
    assert stage_seed(seed, name) != stage_seed(seed + 1, name)
