"""References are what SFT teaches, token by token."""

from pathlib import Path

import pytest

from pipeline.depth.rl.expected import checks_of
from pipeline.depth.rl.references import reference_of
from pipeline.generate.chat import Chat, load_chat
from pipeline.records import Prompt, Rollout

DEPTH_MODEL = Path("data/models/tiny-depth")


@pytest.fixture(scope="module")
def chat() -> Chat:
    return load_chat(DEPTH_MODEL)


def test_a_worked_row_has_its_reasoning_and_its_answer(chat: Chat) -> None:
    prompt = Prompt(id="p", question="_xy?;1", answer="02", columns={"worked": "1xy2"})
    reference = reference_of(prompt, chat, preface=())
    whole = tuple(chat.completions_ids(["<think>1xy2</think>02"])[0])
    assert reference.reasoning + reference.answer == (*whole, chat.row_end)
    assert reference.reasoning[-len(reference.close) :] == reference.close
    run = Rollout(
        prompt_id="p",
        sample=0,
        seed=0,
        prompt_tokens=(2,),
        tokens=(*whole, chat.row_end),
        logprobs=(0.0,) * (len(whole) + 1),
        stop="eos",
        weight_version=0,
    )
    checks = checks_of(run, reference)
    assert all(check.agrees for check in checks)
    assert [check.token for check in checks] == list(range(len(whole) + 1))


def test_a_row_without_reasoning_has_an_answer_and_one_without_a_gold_nothing(chat: Chat) -> None:
    bare = reference_of(Prompt(id="p", question="?", answer="02"), chat, preface=())
    assert bare.reasoning == ()
    assert bare.answer == (*chat.completions_ids(["02"])[0], chat.row_end)
    nothing = reference_of(Prompt(id="p", question="?"), chat, preface=())
    assert (nothing.reasoning, nothing.answer) == ((), ())
