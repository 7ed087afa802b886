"""The character tokenizer is exact in both directions, and its chat template marks answers."""

from hypothesis import given
from hypothesis import strategies as st

from pipeline.models.scratch_model import CHARACTERS, character_tokenizer

TOKENIZER = character_tokenizer()


@given(st.text(CHARACTERS))
def test_ascii_survives_the_tokenizer(text: str) -> None:
    tokens = TOKENIZER(text)["input_ids"]
    assert TOKENIZER.decode(tokens) == text
    assert TOKENIZER.decode(tokens, skip_special_tokens=True) == text


def test_marks_are_single_tokens_and_thinking_survives_decoding() -> None:
    tokens = TOKENIZER("<user>q<assistant><think>a=1</think>1<eos><pad>")["input_ids"]
    assert len(tokens) == 11
    assert TOKENIZER.decode(tokens, skip_special_tokens=True) == "q<think>a=1</think>1"


def test_other_characters_become_question_marks() -> None:
    assert TOKENIZER.decode(TOKENIZER("né")["input_ids"]) == "n?"


def test_chat_template() -> None:
    question = [{"role": "user", "content": "b?"}]
    answer = [{"role": "assistant", "content": "<think></think>3"}]
    prompt = TOKENIZER.apply_chat_template(question, add_generation_prompt=True, tokenize=False)
    whole = TOKENIZER.apply_chat_template(question + answer, tokenize=False)
    assert prompt == "<user>b?<assistant>"
    assert whole == "<user>b?<assistant><think></think>3<eos>"
    masked = TOKENIZER.apply_chat_template(
        question + answer, return_dict=True, return_assistant_tokens_mask=True
    )
    assert masked["assistant_masks"] == [0, 0, 0, 0, 1, 1, 1, 1]
