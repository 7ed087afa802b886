"""Keys that recipes had once: refused with what holds now."""

from typing import Any

import pytest

from pipeline.recipe.load import load_recipe
from pipeline.recipe.recipe_errors import RecipeError
from pipeline.recipe.reference import sections

REMOVED = [(section, key) for _, section in sections() for key in section.removed_keys]


@pytest.mark.parametrize(("section", "key"), REMOVED)
def test_a_removed_key_is_no_key_and_says_what_holds(section: Any, key: str) -> None:
    assert key not in section.model_fields
    text = section.removed_keys[key]
    assert len(text) > 10
    assert not text.endswith(".")


@pytest.mark.parametrize(
    ("override", "words"),
    [
        ("stages.reason.adam_betas=[0.9,0.99]", "Adam's are 0.9 and 0.95; remove it"),
        ("stages.reason.truncation_cap=3", "capped at 2"),
        ("stages.cold_start.completion_only=false", "the loss is on the completion only"),
        ("stages.harvest.readable={language: de}", "write language: en"),
        ("stages.student.init=refit", "a student starts from its own weights"),
        ("stages.cold_start.random_depths={high: 2, mean: 3}", "from 1 to `high`"),
    ],
)
def test_an_old_recipe_is_told_what_holds_now(override: str, words: str) -> None:
    with pytest.raises(RecipeError) as caught:
        load_recipe("quickstart", [override])
    assert "there is no such key any more: " in str(caught.value)
    assert words in str(caught.value)
