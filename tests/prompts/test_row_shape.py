"""Rows as people have them, through the command's own reader: question, context, golds, columns."""

import json
import re
from pathlib import Path
from typing import Any

import pytest

from pipeline.prompts.prompt_error import PromptError
from pipeline.prompts.sources import load_prompts
from pipeline.recipe.prompt_source import PromptSource
from pipeline.records import Prompt, read_prompts, write_prompts

FILE = "rows.jsonl"


@pytest.fixture(autouse=True)
def _here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def load(*rows: Any, **source: Any) -> list[Prompt]:
    Path(FILE).write_text("".join(f"{json.dumps(row)}\n" for row in rows))
    prompts = load_prompts("train", PromptSource(file=FILE, **source), seed=0)
    write_prompts(prompts, Path("stored.parquet"))
    assert read_prompts(Path("stored.parquet")) == prompts
    return prompts


def refusal(*rows: Any, **source: Any) -> str:
    with pytest.raises(PromptError) as caught:
        load(*rows, **source)
    return str(caught.value).removeprefix("prompts.train: ")


def turn(role: str, content: Any) -> dict[str, Any]:
    return {"role": role, "content": content}


TALK = [
    turn("user", "1+1?"),
    turn("assistant", "2"),
    turn("user", "and 1?"),
    turn("assistant", "3"),
]
SHAREGPT = [{"from": "human", "value": "1+1?"}, {"from": "gpt", "value": "2"}]


def test_the_last_user_turn_is_asked_with_what_was_said_before() -> None:
    (prompt,) = load({"messages": [turn("system", "Be brief."), *TALK], "level": 1})
    assert (prompt.question, prompt.answer) == ("and 1?", "3")
    assert prompt.context == (turn("system", "Be brief."), *TALK[:2])
    assert prompt.columns == {"messages": [turn("system", "Be brief."), *TALK], "level": 1}


@pytest.mark.parametrize(
    "row",
    [
        {"conversations": SHAREGPT},
        {"conversation": [{"from": "Human", "value": "1+1?"}, turn("model", "2")]},
        {"messages": {"role": ["user", "assistant"], "content": ["1+1?", "2"]}},
        {"messages": [turn("user", [{"type": "text", "text": "1+1?"}]), turn("assistant", "2")]},
        {"prompt": [turn("user", "1+1?")], "completion": [turn("assistant", "2")]},
        {"prompt": [turn("user", "1+1?")], "reward_model": {"ground_truth": "2", "style": "rule"}},
        {"prompt": [turn("user", "1+1?")], "answer": 2},
        {"instruction": "1+1?", "input": "", "output": "2"},
        {"instruction": "1+1?", "output": "2", "input": None},
    ],
)
def test_a_shape_is_told_by_its_content(row: dict[str, Any]) -> None:
    (prompt,) = load(row)
    assert (prompt.question, prompt.answer, prompt.context) == ("1+1?", "2", ())


def test_a_question_column_goes_before_all_other_shapes() -> None:
    row = {"question": "q", "answer": "a", "messages": TALK, "instruction": "i", "output": "o"}
    (prompt,) = load(row)
    assert (prompt.question, prompt.answer, prompt.context) == ("q", "a", ())
    (prompt,) = load(row, columns={"question": "messages", "answer": "output"})
    assert (prompt.question, prompt.answer) == ("and 1?", "o")
    assert prompt.columns["messages"] == TALK


def test_alpaca_has_its_input_below_and_its_history_before() -> None:
    row = {"instruction": "Translate", "input": "Haus", "output": "house", "system": "Be brief."}
    (prompt,) = load({**row, "history": [["Hi", "Hello"]], "id": 7})
    assert prompt.question == "Translate\n\nHaus"
    assert prompt.context == (
        turn("system", "Be brief."),
        turn("user", "Hi"),
        turn("assistant", "Hello"),
    )
    assert prompt.columns["id"] == 7
    assert "'history' holds no pairs" in refusal({**row, "history": ["Hi"]})


def test_verl_rows_are_mapped_by_dotted_names() -> None:
    row = {
        "data_source": "gsm8k",
        "prompt": [turn("system", "Think."), turn("user", "1+1?")],
        "reward_model": {"style": "rule", "ground_truth": "2"},
        "extra_info": {"index": 3, "answer": "so #### 2"},
    }
    columns = {"question": "prompt", "answer": "reward_model.ground_truth", "n": "extra_info.index"}
    (prompt,) = load(row, columns=columns)
    assert (prompt.question, prompt.answer, prompt.columns["n"]) == ("1+1?", "2", 3)
    assert prompt.context == (turn("system", "Think."),)
    assert prompt.columns["extra_info"] == row["extra_info"]
    (prompt,) = load(row, columns={"answer": "extra_info.answer"}, answer_after="####")
    assert (prompt.answer, prompt.columns["worked"]) == ("2", "so")
    said = refusal(row, columns={**columns, "answer": "reward_model.ground_truht"})
    assert "did you mean reward_model.ground_truth?" in said


def test_a_dotted_name_is_a_column_of_that_name_first() -> None:
    (prompt,) = load(
        {"question": "q", "a.b": "1", "a": {"b": "2", "c": ["x", "y"]}},
        columns={"answer": "a.b", "second": "a.c.1"},
    )
    assert (prompt.answer, prompt.columns["second"]) == ("1", "y")


def test_several_golds_are_kept_in_order() -> None:
    (prompt,) = load(
        {"question": "q", "answers": {"text": ["4", "four", 4.0]}},
        columns={"answer": "answers.text"},
    )
    assert (prompt.answer, prompt.golds) == ("4", ("4", "four"))
    (prompt,) = load({"question": "q", "answer": ["so # 1", "or # 2"]}, answer_after="#")
    assert (prompt.golds, prompt.columns["worked"]) == (("1", "2"), "so")
    (prompt,) = load({"question": "q", "answer": ["4"]})
    assert (prompt.answer, prompt.golds) == ("4", ())


def test_a_template_makes_the_question_from_columns() -> None:
    rows = [{"instruction": "Do", "input": "it", "answer": "a", "deep": {"er": 3}}]
    rows.append({**rows[0], "input": None})
    template = "{instruction}: {{{deep.er}}}\n\n{input}"
    first, second = load(*rows, template=template)
    assert (first.question, second.question) == ("Do: {3}\n\nit", "Do: {3}")
    assert first.columns == {"instruction": "Do", "input": "it", "deep": {"er": 3}}
    said = refusal(*rows, template="{instrution}")
    assert said == (
        f"{FILE}, line 1: column 'instrution' is missing; did you mean instruction?; the row has "
        "instruction, input, answer, deep; correct template, or complete the row"
    )
    assert "the template gives no text" in refusal(
        {"input": " ", "answer": "a"}, template="{input}"
    )
    assert "column 'x' holds a dict" in refusal({"x": {"a": 1}, "answer": "a"}, template="{x}")


@pytest.mark.parametrize(
    ("template", "said"),
    [
        ("no column", "template names no column"),
        ("{a", "template: expected '}' before end of string"),
        ("{}", "template: {} names no column"),
        ("{a:>3}", "template: {a:>3} names no column"),
        ("{a!r}", "template: {a!r} names no column"),
    ],
)
def test_a_wrong_template_is_refused_with_the_recipe(template: str, said: str) -> None:
    with pytest.raises(ValueError, match=re.escape(said)):
        PromptSource(file=FILE, template=template)
    with pytest.raises(ValueError, match=r"template makes the question"):
        PromptSource(file=FILE, template="{a}", columns={"question": "a"})


@pytest.mark.parametrize(
    ("rows", "said"),
    [
        ([{"messages": TALK}, {"messages": TALK[:3]}], "line 2: the conversation ends with the"),
        ([{"messages": TALK[:3]}, {"messages": TALK}], "line 2: the row has a last turn of the"),
        ([{"messages": TALK[1:2]}], "line 1: no turn is the user's"),
        ([{"messages": [*TALK, TALK[1]]}], "line 1: after the last user turn come assistant, assi"),
        ([{"messages": [turn("tool", "x")]}], "turn 1: the role 'tool' is not read"),
        ([{"messages": [turn("usr", "x")]}], "turn 1: the role 'usr' is not read; did you mean us"),
        ([{"messages": [turn("user", None)]}], "turn 1: its content is no text"),
        ([{"messages": [turn("user", " ")]}], "turn 1: its content is empty"),
        ([{"messages": [*TALK, {**TALK[1], "tool_calls": [{}]}]}], "turn 5: turns that call tools"),
        ([{"messages": [turn("user", [{"type": "image_url"}])]}], "turn 1: its content is no text"),
        ([{"messages": TALK}, {"messages": "text"}], "line 2: column 'messages' holds no turns"),
        ([{"messages": []}], "line 1: column 'question' is missing"),
        ([{"data": [{"question": "q"}]}], "if 'data' holds the rows, write that list alone"),
        ([{"question": ["q", "r"], "answer": ["a", "b"]}], "'question' holds a list, not text"),
        ([{"question": {"0": "q"}, "answer": {"0": "a"}}], "'question' holds an object, not text"),
        ([{"question": "q", "answer": []}], "column 'answer' is an empty list"),
        ([{"question": "q", "answer": ["a", None]}], "column 'answer' is null"),
        ([{"question": "q", "answer": {"a": 1}}], "column 'answer' holds a dict"),
        ([{"instruction": "i", "output": "o"}, {"instruction": "i"}], "column 'output' is missing"),
        ([{"question": "q" * 5_000_000}], "the question has 5,000,000 characters"),
    ],
)  # fmt: skip
def test_a_row_of_another_shape_is_named(rows: list[Any], said: str) -> None:
    message = refusal(*rows)
    assert message.startswith(f"{FILE}, line {len(rows)}: ")
    assert said in message


def test_two_system_messages_are_refused() -> None:
    row = {"messages": [turn("system", "Be brief."), *TALK]}
    assert "line 1: the row has a system message of its own" in refusal(row, system="Be long.")
    (prompt,) = load({"messages": [turn("system", ""), *TALK]}, system="Be long.")
    assert prompt.context == tuple(TALK[:2])


def test_prompts_that_differ_in_what_was_said_before_have_other_ids() -> None:
    other = [turn("user", "2+2?"), turn("assistant", "4"), *TALK[2:]]
    first, second, alone, again = load(
        {"messages": TALK}, {"messages": other}, {"messages": TALK[2:]}, {"messages": TALK}
    )
    assert len({first.id, second.id, alone.id}) == 3
    assert again.id == f"{first.id}-2"
    (plain,) = load({"question": "and 1?"})
    assert plain.id == alone.id


def test_chosen_and_rejected_conversations_become_their_last_turns() -> None:
    row = {"question": "1+1?", "chosen": TALK[:2], "rejected": [TALK[0], turn("assistant", "5")]}
    (prompt,) = load(row)
    assert (prompt.columns["chosen"], prompt.columns["rejected"]) == ("2", "5")
    assert "column 'chosen' ends without an answer" in refusal({**row, "chosen": TALK[:1]})
