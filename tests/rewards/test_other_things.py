# ruff: noqa: E501  tables of answers
"""Answers that look like the gold and say another thing: refused; their right neighbours: paid."""

import pytest

from rewards import Sample
from rewards.math_answer import math_answer
from tests.rewards.cpu_budget import within_the_budget

REFUSED = {
    "an equation that asks for its solution": [
        ("x=7", r"3x+5=26"), ("x=7", r"x-7=0"), ("x=7", r"2x=14"), ("a=-3", r"a+3=0"),
        ("n=12", r"\frac{n}{3}=4"), ("y=1/2", r"4y=2"), ("t=5", r"t^2-10t+25=0"), ("x=0", r"5x=0"),
    ],
    "a function's value for a product": [
        ("f(0)", "0"), ("f(0)", "g(0)"), ("P(1)", "P"), ("f(2)", "2f"), ("h(3)", "3h"),
        ("2f(3)", "6f"), ("f(1)+g(1)", "f+g"), ("F(-1)", "-F"),
    ],
    "words that change a number": [
        ("9", r"9 \text{ squared}"), ("9", r"9 \text{ plus one}"), ("9", r"9 \text{ score}"),
        ("9", r"9 \text{ halves}"), ("9", r"9 \text{ thirds}"), ("9", r"9 \text{ is wrong}"),
        ("5", r"5 \text{ at most}"), ("9 \\text{ cm}", r"9 \text{ furlongs}"),
        ("4000 \\text{ ml}", r"4000 \text{ bananas}"), ("3 \\text{ hours}", r"3 \text{ apples}"),
    ],
    "equality near zero alone": [
        ("x", r"\max(x,-100)"), ("x", r"\max(x,-10^9)"), ("n^2", r"\min(n^2,1000)"),
        ("n^2", r"\min(n^2,10^6)"), ("0", r"\lfloor \frac{|x|}{100} \rfloor"),
        ("0", r"\lfloor \frac{|x|}{10^9} \rfloor"), ("x", r"x+\lfloor \frac{x^2}{10^9} \rfloor"),
        ("x", r"\min(x,10^{30})"),
    ],
    "several letters": [
        ("B", "(B) 12 (C) 13"), ("B", r"(B) \text{ no, } (A)"), ("A", "(A) or (D)"),
        ("C", "(C) 5, (E) 6"),
    ],
    "less than was asked": [
        ("f(x)=x", r"f(x)=x \text{ for all } x<0"), ("x^2", r"x^2 \text{ for every } x \le 3"),
    ],
}  # fmt: skip
PAID = [
    ("x=7", "7=x"), ("x=7", "7"), ("y=2x+1", "2x-y+1=0"), ("x+y=3", "2x+2y=6"),
    ("f(2)", "f(1+1)"), ("f(0)", "f(0)"), ("f(x)=2x", "2x"), ("x(x+1)", "x^2+x"),
    ("9", r"9 \text{ apples}"), ("9", r"9 \text{ cm}"), ("9 \\text{ cm}", r"9 \text{ cm long}"),
    ("9 \\text{ cm}", "9"), ("100 \\text{ cm}", r"1 \text{ m}"),
    ("9 \\text{ cm}^2", r"9 \text{ cm squared}"), ("|x|", r"\sqrt{x^2}"),
    ("\\max(x,0)", r"\frac{x+|x|}{2}"), ("\\lfloor x \\rfloor", r"\lfloor x \rfloor"),
    ("B", "(B) 12"), ("B", "(B)"), ("n^2", r"n^2 \text{ for all } n \ge 1"),
]  # fmt: skip


ALMOST = [
    ("x", "x+10^{-12}x^9"), ("x", r"\sqrt{x^2}"), ("x+100", r"\sqrt{(x+100)^2}"), ("x", r"\arctan(\tan x)"),
    ("262537412640768744", r"e^{\pi\sqrt{163}}"), ("x", r"\max(x,-10^{130})"), ("x", r"\min(x,10^{200})"),
    ("0", r"\max(0,1-10^6(x-\pi)^2)"), ("0", r"\max(0,1-10^6(x-37)^2)"), ("0", r"\max(0,1-10^6|x-37|)"),
    ("0", r"\lfloor\frac{1}{1+(x-37)^2}\rfloor"), ("0", r"\lfloor \frac{|x|}{10^{200}}\rfloor"),
    ("0", r"\max(0,1-10^{40}(x-\sqrt2)^2)"), ("1", r"\tanh(10^6)"), ("1", r"\frac{2}{\pi}\arctan(10^{60})"),
    ("x+y", r"\max(x+y,-10^{90})"), ("0", r"\max(0,1-10^6(x-37)^2-10^6(y-5)^2)"), ("|x-1|+|x+1|", "2"),
    ("x", r"x+10^{-99}(x-1)(x-2)(x-3)(x-4)(x-5)(x-6)"), ("x", r"x(1+10^{-200})"), ("x+y", "|x|+|y|"),
    (r"\frac{\pi}{2}", r"\arctan x+\arctan\frac1x"), (r"\cos x", r"\sqrt{1-\sin^2 x}"), ("1", r"\frac{|x-50|}{x-50}"),
    (r"\lceil x\rceil", r"\lfloor x\rfloor+1"), ("x^{100}", "x^{100}+10^{-90}(x-1)(x-2)"),
]  # fmt: skip
EQUAL = [
    ("|x-1|+|x+1|", r"\max(2,|2x|)"), (r"\max(x,y)", r"\frac{x+y+|x-y|}{2}"), ("|x|", r"(x^4)^{1/4}"),
    (r"\lfloor 2x\rfloor", r"\lfloor x\rfloor+\lfloor x+\frac12\rfloor"), ("x+y", r"\max(x,y)+\min(x,y)"),
    ("|x-y|", "|y-x|"), ("x^4", r"\sqrt{x^8}"), ("(x+1)^{20}", "(x+1)^{19}(x+1)"), ("|2x-4|", "2|x-2|"),
    (r"\frac{1}{x^2-1}", r"\frac12\left(\frac1{x-1}-\frac1{x+1}\right)"), ("x", r"\max(x,-x^2-1)"),
    (r"\sqrt{x}(x+1)", r"x\sqrt{x}+\sqrt{x}"), (r"\sin 2x", r"2\sin x\cos x"), (r"\max(|x|,|y|)", r"\max(|y|,|x|)"),
]  # fmt: skip
SLOW = [
    "+".join(f"\\max(x,x^{{{n}}})" for n in range(2, 20)), r"\sqrt{(x-1)^{12}}+\lfloor x^{12}\rfloor",
    r"\lfloor \frac{x^{11}+\pi x^3+1}{x^2+1}\rfloor", "(1+x)^{60}(1+y)^{60}(1-x)^{60}", "(x+y+z)^{20}+x",
    "+".join(f"|x-{n}|" for n in range(30)), r"\lfloor " * 10 + "x^2" + r" \rfloor" * 10, r"\max(x,|x-\frac17|^{11})",
]  # fmt: skip


def value(gold: str, answer: str) -> float | None:
    sample = Sample(prompt="", completion=f"\\boxed{{{answer}}}", gold=gold)
    return math_answer(sample).value


@pytest.mark.parametrize("kind", REFUSED)
def test_another_thing_is_not_paid(kind: str) -> None:
    paid = [pair for pair in REFUSED[kind] if value(*pair) != 0.0]
    assert not paid


def test_its_right_neighbours_are() -> None:
    assert not [pair for pair in PAID if value(*pair) != 1.0]


def test_what_is_equal_almost_everywhere_is_not_equal() -> None:
    assert [pair for pair in ALMOST if value(*pair) != 0.0] == []
    assert [pair for pair in ALMOST if value(*pair[::-1]) != 0.0] == []


def test_what_is_equal_on_every_branch() -> None:
    assert [pair for pair in EQUAL if value(*pair) != 1.0] == []


@pytest.mark.parametrize("answer", SLOW)
@pytest.mark.parametrize("gold", ["x", "|x|"])
def test_branches_take_little_time(gold: str, answer: str) -> None:
    with within_the_budget():
        value(gold, answer)


def test_a_list_of_options_is_no_answer() -> None:
    sample = Sample(prompt="", completion="A: 7\nB: 8\nC: 9", gold="7")
    assert math_answer(sample).value == 0.0
    assert math_answer(Sample(prompt="", completion="So it is.\nA: 7", gold="7")).value == 1.0
