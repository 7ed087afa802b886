# ruff: noqa: E501  texts, one a line
"""Prose around an answer: what takes it back is refused, what only explains or checks is not."""

import json
import re
from pathlib import Path

import pytest

from rewards import Sample, retraction, retraction_cues
from rewards.math_answer import math_answer
from tests.rewards.cpu_budget import within_the_budget

DATA = Path(__file__).resolve().parents[2] / "../shared/data"
REFUSED = {  # for the gold 5
    "called wrong": [
        r"\boxed{5} is wrong, the answer is 6", r"\boxed{5}. This is incorrect.",
        "The answer is 5, which is wrong.", r"The answer is $5$, which is a mistake.", r"\boxed{5} (wrong)",
        r"$\boxed{5}$ isn't right.", r"\boxed{5} can't be the answer.", r"\boxed{5} is not the answer.",
        r"\boxed{5} is the wrong answer.", r"\boxed{5} is a common mistake.", "The limit is 5, which is a mistake.",
        r"\boxed{5}" + "\n\nThat is not correct.", r"\boxed{5}, but that's wrong.", r"\boxed{5} does not work.",
        r"\boxed{5} was my first guess, but it is incorrect.", "The answer is 5. That answer is false.",
        r"**Answer:** $5$. The answer above is wrong.", r"\boxed{5}. NOT!",
    ],
    "another put in its place": [
        r"\boxed{5}. No wait, it is \boxed{6}", r"\boxed{5}. No wait, it is 6.", "The answer is 5. No wait, it is 6.",
        r"\boxed{5} Actually, the answer is 6.", r"\boxed{5}. Actually, 6.", r"\boxed{5}. Sorry, I meant 6.",
        r"\boxed{5}. Oops, I made a mistake. It should be 6.", r"\boxed{5}? No: 6", "x = 5? No: 6",
        r"\boxed{5}. The correct answer is 6.", r"\boxed{5}. Correction: 6.", r"\boxed{5}. Hmm, make that 6.",
        r"\boxed{5}. On second thought, the answer must be $6$.", r"\boxed{5}" + "\nAnswer: 6", r"\boxed{5}. Scratch that.",
        r"\boxed{5}. I miscounted; there are 6.", r"\boxed{5}. In fact it is 6.", "The answer is 5. Rather, 6.",
        "It is 5. Actually it is 6.", "#### 5\nWait, that's wrong.", r"\boxed{5} -- no, 6.",
        r"\boxed{5}. However, the true value is 6.", r"\boxed{5} instead of which the answer is 6.",
        "The answer is 6, not 5.", "One might think the answer is 5, but it is 6.", "The answer is not 5 but 6.",
    ],
    "another put beside it": [
        r"\boxed{5} or \boxed{6}", "5 or 6", "either 5 or 6", "The answer is either 5 or 6.", r"\boxed{5} or 6",
        r"\boxed{5}, or maybe 6.", r"\boxed{5}. It could also be 6.", r"\boxed{5}. 6 is also possible.",
        r"\boxed{5}. Both 5 and 6 work.", r"\boxed{5} (or $6$)", "The answer is 5 or possibly 6.", r"\boxed{\text{5 or 6}}",
        r"\boxed{5}, though 6 also works.", r"\boxed{5}, \boxed{6}", r"\boxed{5} Alternatively, 6.",
    ],
    "denied, supposed or asked": [
        r"The answer is not \boxed{5}.", r"I don't think the answer is \boxed{5}.", "The wrong answer is 5.",
        "It is false that the answer is 5.", r"One might think it is \boxed{5}", r"Anything but \boxed{5}.",
        "I doubt that the answer is 5.", r"It cannot be \boxed{5}.", "If the answer is 5", r"\boxed{5}? Wrong.",
        r"\boxed{5}. Wait, let me recompute.", r"\boxed{5}?", "The answer isn't 5.", "not 5",
    ],
}  # fmt: skip
PAID = [  # for the gold 5
    r"Let me double check... yes, 5.", r"\boxed{5}. Let me double check... yes, 5.", r"\boxed{5}. Wait, let me verify: 2+3 = 5. Correct.",
    r"\boxed{5}. Hmm, let me recheck: 10/2 = 5, which matches.", "The answer is 5, not 6.", r"\boxed{5}, not 6.",
    "The answer is not 6 but 5.", r"\boxed{5} is the answer.", r"\boxed{5}." + "\n\nNo other values work.",
    r"Since x cannot be negative, the answer is \boxed{5}.", r"\boxed{5} or equivalently $\frac{10}{2}$.", r"\boxed{5} or 5.0",
    r"Therefore the number that is not divisible by 3 is \boxed{5}.", r"\boxed{5}. Note that n = 0 is impossible.",
    r"\boxed{5}. Actually, this can also be seen from symmetry.", r"\boxed{5} apples. So she has 5 apples left.",
    r"It might seem that 6 works, but it does not. The answer is \boxed{5}.", r"\boxed{5}. Check: 5 + 6 = 11, as required.",
    r"First I thought it was 6. That is wrong. The answer is 5.", r"\boxed{5}" + "\n\nFinal answer: 5", "The answer is 5. Both sides are equal.",
    r"\boxed{5}. Therefore, the answer is $5$.", r"We may assume x > 0, so the answer is \boxed{5}.", r"\boxed{5} dollars, rather than 6 dollars.",
    r"\boxed{5} However, the proof is long.", r"The maximum is \boxed{5}, and it is attained when x = 2 or x = 3.",
    r"\boxed{5}. The other root, 6, is too large.", r"\boxed{5}. Wait, is that right? 2 + 3 = 5, yes.", r"**Final Answer:** \boxed{5}",
    r"\boxed{5} because 6 does not satisfy the equation.", r"No, the claim is false. The answer is \boxed{5}.", r"\boxed{5}, wait, yes, that is right.",
    r"If x is odd, the answer is \boxed{5}.", r"\boxed{5}. Is it unique? Yes.", r"\boxed{5} (approximately).", r"I hope it is correct: \boxed{5}",
    r"So I was wrong before; the answer is \boxed{5}.", r"\boxed{5}! Great question.", r"\boxed{5}. Thus there are 5 ways, or 1 more than 4.",
]  # fmt: skip


def value(completion: str, gold: str = "5") -> float | None:
    return math_answer(Sample(prompt="", completion=completion, gold=gold)).value


@pytest.mark.parametrize("kind", REFUSED)
def test_what_takes_an_answer_back(kind: str) -> None:
    assert [text for text in REFUSED[kind] if value(text) != 0.0] == []


def test_what_only_explains_or_checks() -> None:
    assert [text for text in PAID if value(text) != 1.0] == []


@pytest.mark.skipif(not DATA.exists(), reason="the shared data is not here")
def test_solutions_as_people_write_them_take_nothing_back() -> None:
    rows = [json.loads(line) for line in (DATA / "math500/test.jsonl").read_text().splitlines()]
    samples = [Sample(prompt="", completion=r["solution"], gold=r["answer"]) for r in rows]
    rules = [math_answer(sample).detail["rule"] for sample in samples]
    assert [rule for rule in rules if rule.startswith("taken back")] == []


class Everything:
    """A set of words that has one in common with every text."""

    def isdisjoint(self, words: object) -> bool:
        return False


def test_no_text_lacks_the_words_that_are_looked_for_first(monkeypatch: pytest.MonkeyPatch) -> None:
    texts = [text for kind in REFUSED.values() for text in kind] + PAID
    pairs = [f"{one} {two}" for one, two in zip(texts, texts[7:] + texts[:7], strict=True)]
    quick = [value(text) for text in [*texts, *pairs]]
    for name in (
        "ALL",
        "DENYING",
        "DENIED",
        "DOUBTING",
        "ANSWERS",
        "MODALS",
        "INSTEAD",
        "OR",
        "ALSO",
        "BOTH",
    ):
        monkeypatch.setattr(retraction_cues, name, Everything())
    monkeypatch.setattr(retraction_cues, "reserved", lambda head: True)
    monkeypatch.setattr(retraction_cues, "cried", lambda words: True)
    monkeypatch.setattr(retraction, "_STATED", re.compile(""))
    retraction._others.cache_clear()
    thorough = [value(text) for text in [*texts, *pairs]]
    retraction._others.cache_clear()
    assert quick == thorough


@pytest.mark.parametrize(
    "tail", ["1,", "wait ", "oh, ", "it is 5 or ", "$5$ $6 ", "\\(", "the answer is ", " ", "not "]
)
def test_long_prose_takes_no_time(tail: str) -> None:
    with within_the_budget():
        value("\\boxed{5} " + tail * (48_000 // len(tail)) + "x")
