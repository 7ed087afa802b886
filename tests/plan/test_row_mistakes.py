"""Rows that a chat template refuses, and rows that teach no answer, told before a run."""

import json
import shutil
from pathlib import Path
from typing import Any

import pytest

from pipeline.plan.data_notes import data_notes
from pipeline.plan.plan import make_plan
from pipeline.plan.stage_plan import PlanError
from pipeline.recipe.schema import Recipe

STRICT = (
    "{% if messages[0].role == 'system' %}{{ raise_exception('System role not supported') }}"
    "{% endif %}{% for m in messages %}"
    "{% if (m.role == 'user') != (loop.index0 % 2 == 0) %}{{ raise_exception('must alternate') }}"
    "{% endif %}{{ m.role }}:{{ m.content }};{% endfor %}"
)


def planned(tmp_path: Path, *rows: dict[str, Any], column: str, **source: Any) -> Recipe:
    """A recipe that fine-tunes a model with a strict template on the rows."""
    model = tmp_path / "model"
    if not model.exists():
        shutil.copytree("data/models/tiny", model)
        (model / "chat_template.jinja").write_text(STRICT)
    file = tmp_path / "rows.jsonl"
    file.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return Recipe.model_validate(
        {
            "name": "r",
            "model": {"path": str(model)},
            "prompts": {"chats": {"file": str(file), **source}},
            "stages": {"cold": {"kind": "sft", "rows": f"chats.{column}", "max_tokens": 64}},
        }
    )


def talk(*roles: str) -> dict[str, Any]:
    return {"messages": [{"role": role, "content": f"{role}?"} for role in roles]}


@pytest.mark.parametrize(
    ("bad", "says"),
    [
        (talk("system", "user", "assistant"), "(system, user): System role not supported"),
        (talk("user", "user", "assistant"), "(user, user): must alternate"),
        (talk("assistant", "user", "assistant"), "(assistant, user): must alternate"),
    ],
)
def test_turns_that_a_template_refuses(tmp_path: Path, bad: dict[str, Any], says: str) -> None:
    good = talk("user", "assistant", "user", "assistant")
    make_plan(planned(tmp_path, good, column="messages"))
    with pytest.raises(PlanError) as caught:
        make_plan(planned(tmp_path, good, bad, bad, column="messages"))
    (line,) = str(caught.value).splitlines()
    assert "line 2" in line
    assert says in line
    assert "2 of 3 rows" in line


def test_a_system_column_that_a_template_refuses(tmp_path: Path) -> None:
    row = {"instruction": "1+1?", "input": "", "output": "2", "system": "Be brief."}
    with pytest.raises(PlanError, match="System role not supported"):
        make_plan(planned(tmp_path, row, column="answer"))


def test_rows_without_their_gold_are_named(tmp_path: Path) -> None:
    row = {"question": "6*7*100?", "steps": "6*7 is forty-two", "answer": "4200"}
    recipe = planned(tmp_path, row, row | {"question": "again?"}, column="steps")
    (warning,) = data_notes(recipe).targets
    assert "stages.cold.rows: in 2 of 2 rows chats.steps does not hold the gold answer" in warning
    assert "line 1" in warning
    assert "columns: {worked: steps}" in warning


@pytest.mark.parametrize("steps", ["so it is 4,200.", "\\boxed{4200}", "#### 4200"])
def test_rows_with_their_gold_are_not(tmp_path: Path, steps: str) -> None:
    row = {"question": "6*7*100?", "steps": steps, "answer": "4200"}
    assert data_notes(planned(tmp_path, row, column="steps")).targets == []


def test_worked_ends_with_its_gold(tmp_path: Path) -> None:
    row = {"question": "6*7?", "answer": "six sevens\n#### 42"}
    assert data_notes(planned(tmp_path, row, column="worked", answer_after="####")).targets == []
