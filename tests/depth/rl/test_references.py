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


def test_the_answer_ends_a_completion_as_sft_teaches_it(chat: Chat) -> None:
    reference = reference_of(Prompt(id="p", question="_xy?;1", answer="02"), chat)
    whole = (*chat.completions_ids(["<think>1xy2</think>02"])[0], chat.row_end)
    assert whole[-len(reference.close + reference.answer) :] == reference.close + reference.answer
    run = Rollout(
        prompt_id="p",
        sample=0,
        seed=0,
        prompt_tokens=(2,),
        tokens=whole,
        logprobs=(0.0,) * len(whole),
        stop="eos",
        weight_version=0,
    )
    checks = checks_of(run, reference)
    assert [(c.token, c.agrees) for c in checks] == [(len(whole) - n, True) for n in (3, 2, 1)]


def test_a_row_without_a_gold_has_no_reference(chat: Chat) -> None:
    assert reference_of(Prompt(id="p", question="?"), chat).answer == ()
