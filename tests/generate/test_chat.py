"""Text to tokens and back, for every family: starts, ends, and tokens that a text cannot write."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.generate.chat import (
    Chat,
    TurnsRefused,
    guarded,
    load_chat,
    shown,
    with_opening,
    without_opening,
)
from pipeline.generate.reward_scorer import scored_ids
from pipeline.records import Rollout
from pipeline.train.token_rows import token_rows

MakeFamily = Callable[..., Path]


def chat_of(folder: Path) -> Chat:
    return load_chat(folder)


def rollout(tokens: list[int]) -> Rollout:
    return Rollout(
        prompt_id="p",
        sample=0,
        seed=0,
        prompt_tokens=(1,),
        tokens=tuple(tokens),
        logprobs=(0.0,) * len(tokens),
        stop="eos",
        weight_version=0,
    )


def test_exactly_one_start(family_name: str, family: Any, make_family: MakeFamily) -> None:
    chat = chat_of(make_family(family_name))
    start = chat.tokenizer.bos_token_id
    prompt = chat.render("How many?", ())
    (row,) = token_rows(chat, [prompt], ["two"], completion_only=True)
    (scored,) = scored_ids(chat, [prompt], ["two"])
    for ids in (list(chat.prompt_ids(prompt)), row.input_ids, scored):
        if family.bos is None:
            assert start not in ids
        else:
            assert ids[0] == start
            assert ids.count(start) == 1
    assert row.input_ids == scored
    assert row.input_ids[: len(chat.prompt_ids(prompt))] == list(chat.prompt_ids(prompt))
    if family.template is None:
        assert list(chat.prompt_ids(prompt)) == chat.tokenizer("How many?")["input_ids"]


def test_a_row_ends_as_the_template_ends_a_turn(
    family_name: str, family: Any, make_family: MakeFamily
) -> None:
    chat = chat_of(make_family(family_name))
    ends = chat.tokenizer.convert_tokens_to_ids(list(family.ends))
    assert set(ends) <= set(chat.ends)
    assert chat.turn_end.is_token == bool(family.turn_end)
    known = Chat(
        tokenizer=chat.tokenizer,
        ends=(*chat.ends, chat.tokenizer.convert_tokens_to_ids(family.turn_end or family.eos)),
    )  # as a materialised folder has it
    (row,) = token_rows(known, [chat.render("?", ())], ["two"], completion_only=True)
    named = family.turn_end or family.eos
    assert row.labels[-1] == chat.tokenizer.convert_tokens_to_ids(named)


def test_a_question_cannot_write_control_tokens(
    family_name: str, family: Any, make_family: MakeFamily
) -> None:
    chat = chat_of(make_family(family_name))
    tokenizer = chat.tokenizer
    hostile = "".join(f"a {text}{text} b" for text in [*family.specials, "<think>", "</think>"])
    special = {i for i, t in tokenizer.added_tokens_decoder.items() if t.special}
    special |= {i for i, t in tokenizer.added_tokens_decoder.items() if "think" in str(t)}

    def controls(question: str) -> list[int]:
        return [i for i in chat.prompt_ids(chat.render(question, ())) if i in special]

    assert controls(hostile) == controls("plain")
    prompt = chat.render(hostile, ())
    assert hostile in shown(prompt)
    assert hostile in tokenizer.decode(chat.prompt_ids(prompt))
    assert not any(mark in shown(prompt) for mark in "\ufdd0")


def test_a_completion_cannot_write_turns_but_can_think(
    family_name: str, family: Any, make_family: MakeFamily
) -> None:
    chat = chat_of(make_family(family_name))
    text = f"<think>{family.eos} {family.turn_end}</think>two"
    (ids,) = chat.completions_ids([text])
    assert not set(ids) & set(chat.ends)
    assert chat.tokenizer.decode(ids) == text
    for tag in ("<think>", "</think>"):
        if tag in chat.tokenizer.get_added_vocab():
            assert ids.count(chat.tokenizer.convert_tokens_to_ids(tag)) == 1


def test_rewards_see_all_but_end_and_padding(
    family_name: str, family: Any, make_family: MakeFamily
) -> None:
    chat = chat_of(make_family(family_name))
    tokenizer = chat.tokenizer
    others = [t for t in (*family.specials, *family.added) if t.strip()]
    said = [t for t in others if tokenizer.convert_tokens_to_ids(t) not in chat.ends]
    said = [t for t in said if t != tokenizer.pad_token]
    ids = [*tokenizer.convert_tokens_to_ids(said), chat.ends[0], tokenizer.pad_token_id]
    text = chat.completion_text(rollout(ids))
    assert text.replace(" ", "") == "".join(said)


def test_plain_questions_are_encoded_as_they_were(make_family: MakeFamily) -> None:
    for name in ("qwen_base", "mistral", "gemma"):
        chat = chat_of(make_family(name))
        tokenizer = chat.tokenizer
        question = "Hi there\n\n what < is | 3 > 2?  <h1>"
        rendered = tokenizer.apply_chat_template(
            [{"role": "user", "content": question}], tokenize=False, add_generation_prompt=True
        )
        assert chat.render(question, ()) == rendered
        plain = tokenizer.encode(rendered, add_special_tokens=False)
        assert list(chat.prompt_ids(rendered)) == plain


@settings(max_examples=200, deadline=None)
@given(st.text(alphabet="<|>ab", max_size=12))
def test_marks_leave_no_control_text_and_can_be_taken_out(text: str) -> None:
    import re

    controls = re.compile("(?=<a>|>b<|<\\|a\\|>|<a)")
    marked = guarded(text, controls)
    assert shown(marked) == text
    assert not controls.search(marked)


@pytest.mark.parametrize(
    ("opened", "whole"),
    [
        ("Q<think>\n", "<think>\nso</think>2"),
        ("Q<think>", "<think>so</think>2"),
        ("Q", "<think>so</think>2"),
    ],
)
def test_the_tag_of_thinking_is_there_once(opened: str, whole: str) -> None:
    said = without_opening(opened, whole)
    assert (opened + said).count("<think>") == 1
    assert with_opening(opened, said) == whole
    assert ("Q" + without_opening("Q", whole)).count("<think>") == 1
    assert without_opening("Q<think>\n", "<think>so</think>2") == "so</think>2"
    assert without_opening("Q<think>", "<think>\nso</think>2") == "\nso</think>2"


def test_ends_come_from_all_configurations(make_family: MakeFamily, tmp_path: Path) -> None:
    folder = make_family("gemma")
    for file in folder.iterdir():
        if "generation" not in file.name:
            (tmp_path / file.name).write_bytes(file.read_bytes())
    config = json.loads((tmp_path / "config.json").read_text())
    assert set(load_chat(tmp_path).ends) == set(config["eos_token_id"])


def test_turns_that_a_template_refuses_are_named(make_family: MakeFamily) -> None:
    chat = chat_of(make_family("special_think"))
    chat.tokenizer.chat_template = (
        "{% if messages[0].role == 'system' %}{{ raise_exception('No system here') }}{% endif %}"
        "{% for m in messages %}{{ m.content }}{% endfor %}"
    )
    context = ({"role": "system", "content": "Be brief."},)
    assert chat.render("How many?", ()) == "How many?"
    with pytest.raises(TurnsRefused) as caught:
        chat.render("How many?", (), context)
    assert "refuses turns of system, user: No system here" in str(caught.value)
    assert "'How many?'" in str(caught.value)


SYSTEM = ({"role": "system", "content": "Be brief."},)


def test_what_was_said_before_stands_before_the_question(make_family: MakeFamily) -> None:
    context = [
        {"role": "user", "content": "1+1? <|im_end|>"},
        {"role": "assistant", "content": "2"},
    ]
    chat = chat_of(make_family("special_think"))
    text = chat.render("and 1?", SYSTEM, context)
    assert shown(text) == (
        "<|im_start|>system\nBe brief.<|im_end|>\n<|im_start|>user\n1+1? <|im_end|><|im_end|>\n"
        "<|im_start|>assistant\n2<|im_end|>\n<|im_start|>user\nand 1?<|im_end|>\n"
        "<|im_start|>assistant\n"
    )
    end = chat.tokenizer.convert_tokens_to_ids("<|im_end|>")
    assert chat.prompt_ids(text).count(end) == 4  # the one in the question's own text is text
    base = chat_of(make_family("base"))
    assert base.render("and 1?", SYSTEM, context) == "Be brief.\n1+1? <|im_end|>\n2\nand 1?"


def test_examples_stand_after_a_row_s_own_system_message(make_family: MakeFamily) -> None:
    examples = (
        {"role": "user", "content": "2+2? <|im_end|>"},
        {"role": "assistant", "content": "4"},
    )
    chat = chat_of(make_family("special_think"))
    text = chat.render("and 1?", examples, [*SYSTEM, {"role": "user", "content": "1+1?"}])
    assert shown(text) == (
        "<|im_start|>system\nBe brief.<|im_end|>\n<|im_start|>user\n2+2? <|im_end|><|im_end|>\n"
        "<|im_start|>assistant\n4<|im_end|>\n<|im_start|>user\n1+1?<|im_end|>\n"
        "<|im_start|>user\nand 1?<|im_end|>\n<|im_start|>assistant\n"
    )
    end = chat.tokenizer.convert_tokens_to_ids("<|im_end|>")
    assert chat.prompt_ids(text).count(end) == 5
