"""Format, exact match and length."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rewards import Sample
from rewards.text_format import exact_match, length, think_format


def sample(completion: str, **fields: object) -> Sample:
    return Sample(**({"prompt": "Q"} | fields), completion=completion)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("completion", "verdict"),
    [
        ("<think>a</think>b", "well_formed"),
        ("  <think>\na\n</think>\n\nb", "well_formed"),
        ("<think></think>b", "well_formed"),
        ("<think>a</think>", "empty_answer"),
        ("<think>a</think>  \n", "empty_answer"),
        ("<think>a", "no_reasoning_tags"),
        ("a</think>b", "no_reasoning_tags"),
        ("b", "no_reasoning_tags"),
        ("", "no_reasoning_tags"),
        ("</think>a<think>", "no_reasoning_tags"),
        ("x<think>a</think>b", "text_before"),
        ("<think>a</think>b<think>c</think>d", "repeated_tags"),
        ("<think><think>a</think>b", "repeated_tags"),
        ("<think>a</think></think>b", "repeated_tags"),
    ],
)
def test_think_format(completion: str, verdict: str) -> None:
    reward = think_format(sample(completion))
    assert (reward.verdict, reward.value) == (verdict, float(verdict == "well_formed"))


@pytest.mark.parametrize(
    ("completion", "verdict"),
    [
        ("a</think>b", "well_formed"),
        ("<think>a</think>b", "repeated_tags"),
        ("a</think>", "empty_answer"),
        ("a", "no_reasoning_tags"),
    ],
)
def test_template_that_opens_the_reasoning(completion: str, verdict: str) -> None:
    assert think_format(sample(completion, prompt="Q <think>\n")).verdict == verdict


def test_unfinished_earns_nothing() -> None:
    reward = think_format(sample("<think>a</think>b", finished=False))
    assert (reward.value, reward.verdict) == (0.0, "unfinished")


@given(st.text(), st.text())
def test_any_two_texts_between_the_tags(reasoning: str, answer: str) -> None:
    whole = sample(f"<think>{reasoning}</think>{answer}")
    assert think_format(whole).value == float(bool(answer.strip()))


def test_exact_match() -> None:
    assert exact_match(sample("<think>A</think> x  y ", gold="x y")).value == 1.0
    assert exact_match(sample("X y", gold="x y")).value == 0.0
    assert exact_match(sample("X y", gold="x y"), ignore_case=True).value == 1.0
    assert exact_match(sample("<think>x y</think>", gold="x y")).verdict == "no_answer"
    assert exact_match(sample("x")).value is None


@pytest.mark.parametrize(
    ("tokens", "value"), [(0, 0.0), (80, 0.0), (85, -0.25), (90, -0.5), (100, -1.0), (500, -1.0)]
)
def test_length(tokens: int, value: float) -> None:
    reward = length(sample("", completion_tokens=tokens, max_tokens=100), buffer_tokens=20)
    assert reward.value == value


def test_length_needs_a_limit() -> None:
    with pytest.raises(ValueError, match="max_tokens"):
        length(sample(""), buffer_tokens=20)
    with pytest.raises(ValueError, match="buffer_tokens"):
        length(sample(""), buffer_tokens=20, max_tokens=10)
