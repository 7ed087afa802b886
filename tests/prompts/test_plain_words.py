import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.prompts.plain_words import key_and_words, text_key

QUESTION = "A farmer's well-known field has 1,000 café trees; how many (in all) are 3 - 2 = x?"


@pytest.mark.parametrize(
    "copy",
    [
        QUESTION.upper(),
        QUESTION.replace(" ", "\n \t"),
        QUESTION.replace(" ", "\u00a0"),
        QUESTION.replace("?", " ."),
        QUESTION.replace(";", ","),
        QUESTION.replace("'", "’"),
        QUESTION.replace("-", "–"),
        QUESTION.replace(" - ", "-"),
        QUESTION.replace("1,000", "1000"),
        QUESTION.replace("in all", "“in all”"),
        QUESTION.replace("x", "$x$"),
        QUESTION.replace("far", "f\u200bar"),
        QUESTION.replace("far", "f\u00adar"),
        unicodedata.normalize("NFD", QUESTION),
        "".join(chr(ord(c) + 0xFEE0) if "!" <= c <= "~" else c for c in QUESTION),
        f"**{QUESTION}**",
        f"- {QUESTION}",
        f"### {QUESTION}",
        f'"{QUESTION}"\n',
    ],
)
def test_a_disguise_is_seen_through(copy: str) -> None:
    assert copy != QUESTION
    assert text_key(copy) == text_key(QUESTION)


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("What is 3-2?", "What is 3+2?"),
        ("What is 3*2?", "What is 3/2?"),
        ("What is 5?", "What is -5?"),
        ("What is 5?", "What is 5!?"),
        ("What is 3.5?", "What is 35?"),
        ("Solve x^2 = 4", "Solve x2 = 4"),
        ("What is (3+2)*4?", "What is 3+(2*4)?"),
        ("Is a < b?", "Is a > b?"),
        ("How much is 5%?", "How much is 5?"),
        ("It is 1,2 or 3", "It is 12 or 3"),
        (r"\frac{1}{23}", r"\frac{12}{3}"),
        ("की", "का"),
        ("?", "!"),
    ],
)
def test_other_questions_stay_apart(one: str, other: str) -> None:
    assert text_key(one) != text_key(other)


def test_words_have_no_signs() -> None:
    _, words = key_and_words("What is (3-2)*x, in metres?")
    assert words == [
        "what", "is", "3", "2", "x", "in", "metres",
    ]  # fmt: skip


@given(st.text())
def test_a_key_is_its_own_key(text: str) -> None:
    key, words = key_and_words(text)
    assert key == text_key(f" {text}\n")
    assert all(word == word.casefold() and word.isalnum() for word in words if "." not in word)
