"""Choice, JSON schema, reasoning-gym, repetition and cosine length."""

import math
from typing import Any

import pytest

from rewards import Sample
from rewards.structured import FAULTY_GYM_SCORERS, choice, gym, json_schema
from rewards.text_shape import cosine_length, repetition


def sample(completion: str, **fields: Any) -> Sample:
    return Sample(prompt="", completion=completion, **fields)


@pytest.mark.parametrize(
    ("completion", "verdict"),
    [
        ("B", "correct"),
        ("(b)", "correct"),
        ("B. Paris", "correct"),
        ("<think>A or B</think>The answer is **B**.", "correct"),
        ("\\boxed{\\text{(B)}}", "correct"),
        ("Answer: B) Paris", "correct"),
        ("C", "wrong"),
        ("A, B, C", "no_answer"),
        ("But which?", "no_answer"),
        ("\\boxed{A} or rather \\boxed{B}", "several_answers"),
        ("", "no_answer"),
        ("Z", "no_answer"),
    ],
)
def test_choice(completion: str, verdict: str) -> None:
    assert choice(sample(completion, gold="B")).verdict == verdict


SCHEMA = {"type": "object", "required": ["n"], "properties": {"n": {"type": "integer"}}}


@pytest.mark.parametrize(
    ("completion", "verdict"),
    [
        ('{"n": 1}', "fits"),
        ('<think>{}</think>\n```json\n{"n": 1}\n```', "fits"),
        ('{"n": "1"}', "does_not_fit"),
        ('{"n": 1} and more', "not_json"),
        ('{"n": 1, "n": 2}', "not_json"),
        ('{"n": NaN}', "not_json"),
        ("[" * 100_000, "not_json"),
        ("<think>{}</think>", "no_answer"),
    ],
)
def test_json_schema(completion: str, verdict: str) -> None:
    assert json_schema(sample(completion), schema=SCHEMA).verdict == verdict


def test_gym() -> None:
    reasoning_gym = pytest.importorskip("reasoning_gym")
    entry = reasoning_gym.create_dataset("leg_counting", size=1, seed=1)[0]
    columns = {"gym": "leg_counting", "entry": entry}
    for form in ("{}", "<think>so</think> {}", "\\boxed{{{}}}", "<answer>{}</answer>"):
        assert gym(sample(form.format(entry["answer"]), columns=columns)).verdict == "correct"
    assert gym(sample("-1", columns=columns)).verdict == "wrong"
    assert gym(sample("", columns=columns)).verdict == "no_answer"


@pytest.mark.parametrize("task", sorted(FAULTY_GYM_SCORERS))
def test_faulty_gym_scorers_are_refused(task: str) -> None:
    with pytest.raises(ValueError, match=f"{task} is refused"):
        gym(sample("x", columns={"gym": task, "entry": {}}))


def test_repetition() -> None:
    assert repetition(sample("one two three four"), words=2).value == 0.0
    assert repetition(sample("a b " * 50), words=2).value == pytest.approx(-1 + 2 / 99)
    assert repetition(sample("short")).verdict == "no_repeats"
    with pytest.raises(ValueError, match="max_penalty"):
        repetition(sample("x"), max_penalty=1.0)


@pytest.mark.parametrize(
    ("answer", "tokens", "value"),
    [("7", 0, 2.0), ("7", 50, 1.5), ("8", 0, -10.0), ("8", 50, -5.0), ("7", 100, -10.0)],
)
def test_cosine_length(answer: str, tokens: int, value: float) -> None:
    scored = cosine_length(sample(answer, gold="7", completion_tokens=tokens, max_tokens=100))
    assert scored.value is not None
    assert math.isclose(scored.value, value)


def test_cosine_length_falls_for_right_and_rises_for_wrong() -> None:
    def values(answer: str) -> list[float | None]:
        rows = [sample(answer, gold="7", completion_tokens=n) for n in range(0, 100, 10)]
        return [cosine_length(row, max_tokens=100).value for row in rows]

    assert values("7") == sorted(values("7"), reverse=True)  # type: ignore[type-var]
    assert values("8") == sorted(values("8"))  # type: ignore[type-var]
