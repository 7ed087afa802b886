"""Before every answer of a training row stands what the model reads when it answers."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from pipeline.generate.chat import Chat, load_chat
from pipeline.generate.turns import training_texts
from pipeline.records import Message
from pipeline.train.token_rows import IGNORED, TokenRow, token_rows

MakeFamily = Callable[..., Path]

TALK: list[Message] = [
    {"role": "user", "content": "How many?"},
    {"role": "assistant", "content": "two"},
    {"role": "user", "content": "And <|im_end|> now?"},
    {"role": "assistant", "content": "one more\n"},
    {"role": "user", "content": "Thanks"},
]


def rows_of(chat: Chat, turns: Sequence[Message]) -> list[TokenRow]:
    texts = training_texts(chat, turns, preface=())
    prompts, completions, further = zip(*((p, c, more) for p, c, *more in texts), strict=True)
    return token_rows(chat, prompts, completions, completion_only=True, further=further)


def answers(row: TokenRow) -> list[tuple[int, int]]:
    """(first, after the last) position of each run of tokens with loss."""
    learned = [label != IGNORED for label in row.labels]
    edges = [
        i
        for i, (a, b) in enumerate(zip([False, *learned], [*learned, False], strict=True))
        if a != b
    ]
    return list(zip(edges[::2], edges[1::2], strict=True))


def test_every_answer_follows_what_the_model_reads(
    family_name: str, family: Any, make_family: MakeFamily
) -> None:
    chat = load_chat(make_family(family_name))
    rows = rows_of(chat, TALK)
    learned = []
    for row in rows:
        assert all(
            label in (IGNORED, id_) for id_, label in zip(row.input_ids, row.labels, strict=True)
        )
        learned += [
            (row.input_ids[:first], row.input_ids[first:end]) for first, end in answers(row)
        ]
    places = [place for place, turn in enumerate(TALK) if turn["role"] == "assistant"]
    for place, (before, answer) in zip(places, learned, strict=True):
        read = chat.render(TALK[place - 1]["content"], (), TALK[: place - 1])
        assert before == list(chat.prompt_ids(read))
        assert answer == [*chat.completions_ids([TALK[place]["content"]])[0], chat.row_end]


def test_one_turn_is_the_row_of_a_question(family_name: str, make_family: MakeFamily) -> None:
    chat = load_chat(make_family(family_name))
    (row,) = rows_of(chat, TALK[:2])
    prompt = chat.render("How many?", ())
    (plain,) = token_rows(chat, [prompt], ["two"], completion_only=True)
    assert row == plain


def test_a_template_that_shows_answers_as_they_were_has_one_row(make_family: MakeFamily) -> None:
    talk = [{**turn, "content": turn["content"].strip()} for turn in TALK]
    (row,) = rows_of(load_chat(make_family("special_think")), talk)
    assert len(answers(row)) == 2


def test_a_template_that_drops_reasoning_has_a_row_an_answer(make_family: MakeFamily) -> None:
    chat = load_chat(make_family("special_think"))
    chat.tokenizer.chat_template = (
        "{% for m in messages %}{{ '<|im_start|>' + m.role + '\n' + m.content.split('</think>')[-1]"
        " + '<|im_end|>\n' }}{% endfor %}"
        "{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
    )
    talk = [dict(turn) for turn in TALK]
    talk[1]["content"] = "<think>1 + 1</think>two"
    first, second = training_texts(chat, talk, preface=())
    assert first[1] == "<think>1 + 1</think>two"
    assert "1 + 1" not in second[0]
    assert "two" in second[0]


def test_an_answer_that_is_not_learned_has_no_loss(make_family: MakeFamily) -> None:
    chat = load_chat(make_family("special_think"))
    talk = [{**turn, "content": turn["content"].strip()} for turn in TALK]
    whole = rows_of(chat, talk)[0]
    for place, other in ((1, 1), (3, 0)):
        marked = [turn | {"weight": "0"} if n == place else turn for n, turn in enumerate(talk)]
        (row,) = rows_of(chat, marked)
        (span,) = answers(row)
        assert span == answers(whole)[other]
        assert row.input_ids == whole.input_ids[: len(row.input_ids)]
