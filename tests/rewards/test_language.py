"""The share of words in the target language."""

import pytest

from rewards import Sample

pytest.importorskip("pycld2")
from rewards.language import language

ENGLISH = "First we add the two numbers. Then we divide the sum by three and get the answer."
GERMAN = "Zuerst addieren wir die beiden Zahlen. Dann teilen wir die Summe durch drei."
CHINESE = "首先我们把两个数字相加。然后除以三得到答案。"


def share(text: str, target: str = "en") -> float:
    value = language(Sample(prompt="", completion=text), target=target).value
    assert value is not None
    return value


@pytest.mark.parametrize(
    "text",
    [
        ENGLISH,
        "Wait",
        "ok so red goes to slot b",
        "Janet sells eggs at the market. $16-3-4=9$ eggs are left, so $9\\cdot 2=18$.",
        "compute mod p",
        "x = 3 y, α + β, 17 * 4",
        "",
        "Let \\alpha be the angle.\n```python\nfür = 1\n```\nSo we see that it holds.",
        "\x00\x07 the answer \ud800 is here \ufffe",
    ],
)
def test_english_is_consistent(text: str) -> None:
    assert share(text) == 1.0


@pytest.mark.parametrize(("text", "target"), [(GERMAN, "de"), (CHINESE, "zh"), (ENGLISH, "en")])
def test_each_in_its_own(text: str, target: str) -> None:
    assert share(text, target) == 1.0
    assert share(text, "fr") < 0.1


def test_mixtures_lie_between() -> None:
    assert 0.4 < share(f"{ENGLISH} {GERMAN}") < 0.7
    assert 0.5 < share(f"{ENGLISH} {CHINESE}") < 0.8
    assert 0.8 < share(f"{ENGLISH} So 答案 follows.") < 1.0


def test_only_the_reasoning_counts() -> None:
    assert share(f"<think>{ENGLISH}</think>{GERMAN}") == 1.0


def test_words_are_counted() -> None:
    reward = language(Sample(prompt="", completion="17 * 4"))
    assert (reward.verdict, reward.metrics["words"]) == ("no_words", 0.0)


def test_unknown_target() -> None:
    with pytest.raises(ValueError, match="ISO 639-1"):
        language(Sample(prompt="", completion="x"), target="xx-yy")
