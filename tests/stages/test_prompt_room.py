"""Prompts that do not fit are found before the first stage: refused, or left out with a count."""

from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from pipeline.plan.plan import PlanError, make_plan
from pipeline.recipe.schema import Recipe
from pipeline.records import Prompt, write_prompts
from pipeline.stages.drop_log import run_drops, write_room_drops
from pipeline.stages.prompt_room import ALLOWANCE_TOKENS, PromptRoom, prompt_room
from pipeline.stages.support import PROMPTS_FILE, engine_settings, prompts_of

MakeFamily = Callable[..., Path]


def plan_of(model: Path, *, too_long: str = "refuse", max_tokens: int = 64) -> Any:
    stage = {
        "kind": "evaluate",
        "models": ["base"],
        "prompts": "train",
        "reward": "answer",
        "samples_per_prompt": 1,
        "pass_k": [1],
        "max_tokens": max_tokens,
    }
    source = {"task": "swaps", "size": 4, "difficulty": [1, 2], "too_long": too_long}
    content = {
        "name": "room",
        "seed": 1,
        "model": {"path": str(model)},
        "prompts": {"train": source},
        "rewards": {"answer": {"use": "builtin:exact_match"}},
        "stages": {"report": stage},
    }
    return make_plan(Recipe.model_validate(content))


def prompts(*lengths: int) -> list[Prompt]:
    return [Prompt(id=f"p{i}", question="w" * n) for i, n in enumerate(lengths)]


@pytest.mark.parametrize("name", ["base", "gemma", "mistral", "opens_think"])
def test_a_prompt_over_the_allowance_has_room(make_family: MakeFamily, name: str) -> None:
    model = make_family(name)
    plan = plan_of(model)
    room = prompt_room(plan, model, {"train": prompts(10, 5000)}, log=pytest.fail)
    assert 5000 < room.longest_tokens < 5100
    assert not room.left_out
    ctx: Any = SimpleNamespace(plan=plan, room=room, artifacts={})
    assert engine_settings(ctx, model).max_model_tokens == 64 + room.longest_tokens
    short = prompt_room(plan, model, {"train": prompts(10, 20)}, log=pytest.fail)
    assert short == PromptRoom()
    ctx = SimpleNamespace(plan=plan, room=short, artifacts={})
    assert engine_settings(ctx, model).max_model_tokens == 64 + ALLOWANCE_TOKENS


def test_what_does_not_fit_is_refused_with_numbers(make_family: MakeFamily) -> None:
    model = make_family("base")
    with pytest.raises(PlanError, match=r"prompts\.train: 2 of 3 prompts have more than 8128") as e:
        prompt_room(plan_of(model), model, {"train": prompts(10, 9000, 8128)}, log=print)
    assert "the longest has 9001" in str(e.value)
    assert "prompts.train.too_long: drop" in str(e.value)
    prompt_room(plan_of(model), model, {"train": prompts(10, 8127)}, log=pytest.fail)


def test_what_does_not_fit_is_left_out_where_the_entry_says_so(
    make_family: MakeFamily, tmp_path: Path
) -> None:
    model = make_family("base")
    said: list[str] = []
    rows = prompts(10, 9000, 6000)
    plan = plan_of(model, too_long="drop")
    room = prompt_room(plan, model, {"train": rows}, log=said.append)
    assert room.left_out == {"train": {"p1"}}
    assert room.longest_tokens == 6001
    assert "1 of 3 prompts" in said[0]
    write_room_drops(tmp_path, room.drops)
    (drop,) = run_drops(tmp_path)
    assert (drop["place"], drop["dropped"], drop["total"]) == ("prompts.train", 1, 3)
    assert drop["key"] == "prompts.train.too_long"
    write_prompts(rows, tmp_path / PROMPTS_FILE)
    ctx: Any = SimpleNamespace(room=room, artifacts={"train": SimpleNamespace(path=tmp_path)})
    assert [p.id for p in prompts_of(ctx, "train")] == ["p0", "p2"]
    with pytest.raises(PlanError, match="1 of 1 prompts"):
        prompt_room(plan, model, {"train": prompts(9000)}, log=said.append)


def test_turns_that_the_template_refuses_are_named_before_the_first_stage(
    make_family: MakeFamily,
) -> None:
    model = make_family("gemma")
    talk = ({"role": "system", "content": "Be brief."},)
    rows = [*prompts(10), Prompt(id="p1", question="1+1?", context=talk)]
    with pytest.raises(
        PlanError, match=r"prompts\.train: .* refuses turns of system, user: System"
    ):
        prompt_room(plan_of(model), model, {"train": rows}, log=pytest.fail)


def test_rows_whose_turns_the_template_refuses_are_refused_before_a_stage(
    make_family: MakeFamily,
) -> None:
    """Rows that are only trained on, of a model whose template the plan has not seen."""
    content = {
        "name": "room",
        "seed": 1,
        "model": {"hub": "some/gemma"},
        "prompts": {"taught": {"task": "swaps", "size": 4, "difficulty": [1, 2], "system": "Sum."}},
        "rewards": {"answer": {"use": "builtin:exact_match"}},
        "stages": {"tune": {"kind": "sft", "rows": "taught.worked"}},
    }
    plan = make_plan(Recipe.model_validate(content))
    with pytest.raises(PlanError, match=r"prompts\.taught: .*refuses turns of system, user"):
        prompt_room(plan, make_family("gemma"), {"taught": prompts(10)}, log=print)
    prompt_room(plan, make_family("zephyr"), {"taught": prompts(10)}, log=print)
