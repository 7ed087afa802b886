"""Reasoning and answer, told apart at every moment."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.generate.reasoning import Parts, parts_of

PIECES = st.lists(st.sampled_from(["<think>", "</think>", "<th", "</", "a", "\n", "<", ">"]))


@pytest.mark.parametrize(
    ("text", "opened", "reasoning", "answer", "ended"),
    [
        ("<think>a</think>b", False, "a", "b", True),
        ("\n<think>\na", False, "\na", "", False),
        ("a</think>b", True, "a", "b", True),
        ("<think>a</think>b", True, "a", "b", True),
        ("a</think>b", False, "", "a</think>b", True),
        ("b", False, "", "b", True),
        ("", False, "", "", True),
        ("<think>a</think></think>", False, "a", "</think>", True),
    ],
)
def test_parts(text: str, opened: bool, reasoning: str, answer: str, ended: bool) -> None:
    whole = parts_of(text, opened=opened).whole
    assert (whole.reasoning, whole.answer, whole.ended) == (reasoning, answer, ended)


@given(PIECES, st.booleans())
def test_what_was_shown_stays_shown(pieces: list[str], opened: bool) -> None:
    """A longer text never takes back what a shorter one's parts had."""
    text, before = "", Parts()
    for piece in pieces:
        for character in piece:
            text += character
            now = parts_of(text, opened=opened)
            assert now.reasoning.startswith(before.reasoning)
            assert now.answer.startswith(before.answer)
            before = now
    whole = parts_of(text, opened=opened).whole
    assert whole.reasoning.startswith(before.reasoning)
    assert whole.answer.startswith(before.answer)
