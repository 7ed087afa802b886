import json
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from pipeline.prompts.prompt_error import PromptError
from pipeline.prompts.row_values import as_text, json_safe, split_at_mark
from pipeline.prompts.sources import load_prompts
from pipeline.recipe.prompt_source import PromptSource
from pipeline.records import Prompt
from pipeline.stages.training_rows import completion_of

PROGRAM = "    for i in range(2):\n        print(i)\n    return True\n"


def one(path: Path, row: dict[str, Any], **source: Any) -> Prompt:
    path.write_text(json.dumps(row) + "\n")
    return load_prompts("train", PromptSource(file=str(path), **source), seed=0)[0]


@pytest.mark.parametrize(
    "text", [PROGRAM, "\tx = 1", "a\n", " a ", "\n\na", "x\r\n", "\u00a0a", "a\u2028", "0x1F"]
)
def test_a_text_stays_what_it_is(text: str, tmp_path: Path) -> None:
    prompt = one(tmp_path / "a.jsonl", {"question": text, "answer": text, "solution": text})
    assert (prompt.question, prompt.answer) == (text, text)
    assert completion_of(prompt, "answer") == completion_of(prompt, "solution") == text


def test_a_solution_still_runs_behind_its_prompt(tmp_path: Path) -> None:
    row = {"prompt": 'def both(a):\n    """Two lines."""\n', "canonical_solution": PROGRAM}
    columns = {"question": "prompt", "answer": "canonical_solution"}
    prompt = one(tmp_path / "a.jsonl", row, columns=columns)
    program: dict[str, Any] = {}
    exec(prompt.question + completion_of(prompt, "answer"), program)
    assert program["both"](1) is True


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (7, "7"),
        (-3, "-3"),
        (0.5, "0.5"),
        (0.1, "0.1"),
        (18.0, "18"),
        (-0.0, "0"),
        (1e-7, "1e-07"),
        (1e300, "1e+300"),
        (2.0**53, "9007199254740992.0"),
        (Decimal("10.50"), "10.50"),
    ],
)
def test_numbers_are_written_out(value: Any, text: str) -> None:
    assert as_text(value, where="w", column="answer") == text


@pytest.mark.parametrize(
    ("value", "said"),
    [
        (float("nan"), "holds nan, which is no answer"),
        (float("-inf"), "holds -inf, which is no answer"),
        (Decimal("NaN"), "holds NaN, which is no answer"),
        (True, "holds true, which people write in several ways"),
        (None, "is null; fill it or remove the row"),
        ("", "is empty"),
        (" \n", "is empty"),
        ({"value": 3}, "holds a dict, not text or a number"),
        (b"3", "holds a bytes, not text or a number"),
    ],
)
def test_what_is_no_answer_is_refused(value: Any, said: str) -> None:
    with pytest.raises(PromptError, match=f"^rows, line 3: column 'answer' {said}"):
        as_text(value, where="rows, line 3", column="answer")


@pytest.mark.parametrize(
    ("answer", "parts"),
    [
        ("two\n#### 4", ("two", "4")),
        (" two \n\n####4 \n", (" two", "4")),
        ("#### 3 #### 5", ("#### 3", "5")),
        ("Code:\n####\n    x = 1\n    return x\n", ("Code:", "    x = 1\n    return x\n")),
        ("####  if a:\n      b\n", ("", "if a:\n      b\n")),
        ("####\n    42\n", ("", "42")),
    ],
)
def test_an_answer_is_cut_after_its_mark(answer: str, parts: tuple[str, str]) -> None:
    assert split_at_mark(answer, "####", where="w") == parts


def test_a_missing_number_of_another_column_is_null() -> None:
    assert json_safe({"a": float("nan"), "b": [float("inf"), 1.5]}) == {"a": None, "b": [None, 1.5]}


@pytest.mark.parametrize("gold", ["NaN", "nan", "inf", "-inf", "Infinity"])
def test_a_gold_that_is_no_number_is_refused_in_csv_too(gold: str, tmp_path: Path) -> None:
    path = tmp_path / "rows.csv"
    path.write_text(f"question,answer,other\na?,infinity,NaN\nb?,{gold},1\n")
    with pytest.raises(PromptError, match=r"rows\.csv, line 3: column 'answer' holds -?(nan|inf)"):
        load_prompts("train", PromptSource(file=str(path)), seed=0)
    (prompt,) = load_prompts("train", PromptSource(file=str(path), size=1), seed=0)
    assert (prompt.answer, prompt.columns) == ("infinity", {"other": None})


@pytest.mark.parametrize("value", [True, {"a": 1}, [1], ""])
def test_a_target_is_text(value: Any) -> None:
    prompt = Prompt(id="x", question="q", answer="a", columns={"steps": value})
    with pytest.raises(PromptError, match="prompt x: column 'steps'"):
        completion_of(prompt, "steps")


def test_a_problem_without_steps_teaches_its_answer() -> None:
    prompt = Prompt(id="x", question="q", answer="a", columns={"worked": ""})
    assert completion_of(prompt, "worked") == "<think></think>a"
