"""Rows in the shapes of public data sets and of other trainers' documents, made up here."""

import csv
import json
from pathlib import Path
from typing import Any

import pytest

from pipeline.prompts.prompt_error import PromptError
from pipeline.prompts.sources import load_prompts
from pipeline.recipe.prompt_source import PromptSource
from pipeline.records import Prompt

Row = dict[str, Any]


@pytest.fixture(autouse=True)
def _here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def load(row: Row, **source: Any) -> Prompt:
    Path("rows.json").write_text(json.dumps([row]))
    (prompt,) = load_prompts("train", PromptSource(file="rows.json", **source), seed=0)
    return prompt


def user(content: str, **keys: Any) -> Row:
    return {"role": "user", "content": content, **keys}


def assistant(content: str, **keys: Any) -> Row:
    return {"role": "assistant", "content": content, **keys}


def test_skyrl_has_its_gold_in_its_own_column() -> None:
    rule = {"method": "rule", "ground_truth": "2"}
    prompt = load({"prompt": [user("1+1?")], "env_class": "gsm8k", "reward_spec": rule})
    assert (prompt.question, prompt.answer) == ("1+1?", "2")


CHOSEN, REJECTED = [user("q"), assistant("good")], [user("q"), assistant("bad")]
HUMAN = {"from": "human", "value": "q"}


@pytest.mark.parametrize(
    "row",
    [
        {"prompt": [user("q")], "chosen": CHOSEN[1:], "rejected": REJECTED[1:]},  # TRL
        {"chosen": CHOSEN, "rejected": REJECTED},  # TRL, the prompt within
        {"prompt": "q", "chosen": CHOSEN, "rejected": REJECTED},  # UltraFeedback
        {  # LLaMA-Factory's ranking
            "conversations": [HUMAN],
            "chosen": {"from": "gpt", "value": "good"},
            "rejected": {"from": "gpt", "value": "bad"},
        },
        {"chosen": json.dumps(CHOSEN), "rejected": json.dumps(REJECTED)},
    ],
)
def test_preferences_are_read_with_and_without_their_prompt(row: Row) -> None:
    prompt = load(row)
    assert prompt.question == "q"
    assert [prompt.columns[name] for name in ("chosen", "rejected")] == ["good", "bad"]


@pytest.mark.parametrize(
    "mark", [{"weight": 0}, {"weight": 0.0}, {"train": False}, {"training": False}]
)
def test_an_answer_that_is_not_learned_is_marked(mark: Row) -> None:
    turns = [user("q0", **mark), assistant("bad", **mark), user("q"), assistant("a", weight=1)]
    prompt = load({"messages": turns})
    assert (prompt.question, prompt.answer) == ("q", "a")
    assert prompt.context == (user("q0"), assistant("bad"))
    marked = assistant("bad", weight="0")
    assert prompt.columns["messages"] == [user("q0"), marked, user("q"), assistant("a")]


@pytest.mark.parametrize("written", [json.dumps, str])
def test_turns_in_the_cells_of_a_table_are_turns(written: Any) -> None:
    with open("rows.csv", "w", newline="") as file:
        csv.writer(file).writerows([["messages"], [written([user("it's"), assistant("a\nb")])]])
    for columns in ({}, {"question": "messages"}):
        source = PromptSource(file="rows.csv", columns=columns)
        (prompt,) = load_prompts("train", source, seed=0)
        assert (prompt.question, prompt.answer) == ("it's", "a\nb")


def test_a_text_that_only_looks_like_turns_is_a_text() -> None:
    for text in ("[{", '[{"a": 1}]', "[{'role': ]", "[{" * 5000):
        assert load({"question": text, "answer": "a"}).question == text


def test_a_template_takes_lists_of_plain_values() -> None:
    row = {"nums": [3, 5, 7.5], "target": 8, "names": ["é", "b"]}
    prompt = load(row, template="{nums} for {target}, {names}", columns={"answer": "target"})
    assert (prompt.question, prompt.answer) == ('[3, 5, 7.5] for 8, ["é", "b"]', "8")


@pytest.mark.parametrize(
    ("row", "words"),
    [
        ({"messages": [user("q"), assistant("4", reasoning_content="2+2")]}, "reasoning_content"),
        ({"messages": [user("q"), assistant("4", thinking="2+2")]}, "content with <think>"),
        ({"messages": [user("q"), assistant("4", train_detail=[{}])]}, "train_detail"),
        ({"messages": CHOSEN, "tools": [{"type": "function"}]}, "column 'tools' is not read"),
        ({"messages": CHOSEN, "tools": '[{"name": "f"}]'}, "column 'tools' is not read"),
        ({"prompt": CHOSEN[:1], "completion": REJECTED[1:], "label": False}, "a bad one"),
        ({"chosen": CHOSEN[:1], "rejected": REJECTED}, "ends without an answer"),
    ],
)
def test_what_would_be_lost_is_refused(row: Row, words: str) -> None:
    with pytest.raises(PromptError, match=words):
        load(row)


@pytest.mark.parametrize("tools", [None, [], "", "[]"])
def test_tools_that_are_none_are_no_tools(tools: Any) -> None:
    assert load({"messages": CHOSEN, "tools": tools}).answer == "good"
