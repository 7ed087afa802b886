"""The plan names how turns end where a model's own end tokens do not say so."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from pipeline.generate.chat import load_chat
from pipeline.models.model_texts import texts_of
from pipeline.plan.notes import notes_of
from pipeline.plan.plan import PlanError, make_plan
from pipeline.recipe.schema import Recipe
from tests.plan.plans import SFT, recipe_with

MakeFamily = Callable[..., Path]


def recipe(model: dict[str, Any], *, max_tokens: int = 64) -> Recipe:
    return Recipe.model_validate(
        {
            "name": "turns",
            "seed": 1,
            "model": model,
            "prompts": {"held_out": {"task": "swaps", "size": 4, "difficulty": [1, 2]}},
            "rewards": {"answer": {"use": "builtin:exact_match"}},
            "stages": {
                "report": {
                    "kind": "evaluate",
                    "models": ["base"],
                    "prompts": "held_out",
                    "reward": "answer",
                    "samples_per_prompt": 1,
                    "pass_k": [1],
                    "max_tokens": max_tokens,
                }
            },
        }
    )


def test_files_tell_the_turn_end_that_the_tokenizer_tells(
    family_name: str, make_family: MakeFamily
) -> None:
    folder = make_family(family_name)
    texts = texts_of(folder)
    assert texts is not None
    assert texts.turn_end() == load_chat(folder).turn_end


def test_a_turn_end_that_is_no_end_token_is_named(
    family_name: str, family: Any, make_family: MakeFamily
) -> None:
    folder = make_family(family_name)
    notes = notes_of(recipe({"path": str(folder)}))
    known = {family.eos, *family.ends, ""}
    if family_name == "words":
        assert "'</turn>', which is no token" in notes[0]
        assert "model.stop: [TOKEN]" in notes[0]
    elif family.turn_end not in known:
        (note,) = notes
        assert note.startswith(f"model: the chat template ends a turn with {family.turn_end}")
        stopped = recipe({"path": str(folder), "stop": [family.turn_end]})
        assert notes_of(stopped) == []
    else:
        assert notes == []


def test_a_template_of_the_recipe_counts(make_family: MakeFamily) -> None:
    template = "{% for m in messages %}{{ m['content'] }}<end_of_turn>{% endfor %}"
    model = {"path": str(make_family("base")), "chat_template": template}
    assert "'<end_of_turn>', which is no token" in notes_of(recipe(model))[0]
    assert notes_of(recipe({"path": "data/models/tiny"})) == []


@pytest.mark.parametrize(("tokens", "fits"), [(8191, True), (8192, False), (32768, False)])
def test_completions_over_the_models_positions_are_refused(
    make_family: MakeFamily, tokens: int, fits: bool
) -> None:
    plan = recipe({"path": str(make_family("base"))}, max_tokens=tokens)
    if fits:
        make_plan(plan)
        return
    with pytest.raises(PlanError, match=r"stages\.report\.max_tokens: .* model's 8192 positions"):
        make_plan(plan)


def test_adapters_at_the_rate_of_whole_weights_are_named() -> None:
    def notes(**stage: Any) -> list[str]:
        return [n for n in notes_of(recipe_with({"s": {**SFT, **stage}})) if ".lr" in n]

    assert not notes()
    assert not notes(lora={}, lr=3e-4)
    (note,) = notes(lora={})
    assert note.startswith("stages.s.lr: 5e-05 ")
    assert note.endswith("lr: 0.0005")
