"""Digit groups, widths of characters, quotation marks: other ways to write what is equal."""

import pytest

from rewards import Sample
from rewards.math_answer import math_answer

DIGIT_GROUPS = [
    ("12345", "12{,}345", True),
    ("12345", "12\\,345", True),
    ("1234567", "1\\,234\\,567", True),
    ("7\\;654\\;321", "7654321", True),
    ("1500", "1,500 \\text{ m}", True),
    ("98765", "98 765", True),
    ("98765", "98\u2009765", True),
    ("98765", "98\u202f765", True),
    ("98765", "98~765", True),
    ("98765", "98'765", True),
    ("1234567", "12,34,567", True),
    ("1234567", "12{,}34{,}567", True),
    ("\\frac{2000}{7}", "\\frac{2,000}{7}", True),
    ("x = 4200", "4{,}200", True),
    ("4200\\pi", "4,200\\pi", True),
    ("\\sqrt{1500}", "\\sqrt{1,500}", True),
    ("3.25", "3{,}25", True),
    ("0.123456", "0.123\\,456", True),
    ("(1000, 2000)", "(1{,}000, 2{,}000)", True),
    ("1, 234", "1,234", True),
    ("10,11,12,100", "10, 11, 12, 100", True),
    ("12\\frac{345}{678}", "12 345/678", True),
    ("12345", "12{,}346", False),
    ("12345", "12\\,34", False),
    ("12345", "1 2345", False),
    ("1234", "(1,234)", False),
    ("(1,234)", "1234", False),
    ("1234", "1, 234", False),
    ("1234567", "12,34,568", False),
    ("123,456", "456,123", False),
    ("12345", "12 345/678", False),
    ("98765", "98'766", False),
    ("3.25", "3{,}26", False),
    ("1500", "1,501 \\text{ m}", False),
]
WIDTHS = [
    ("12345", "１２３４５", True),
    ("12345", "１２，３４５", True),
    ("x=8", "x＝8", True),
    ("35\\%", "35％", True),
    ("(0,5]", "（0，5]", True),
    ("3:4", "3：4", True),
    ("-2", "－2", True),
    ("2+x", "2＋ｘ", True),
    ("0.5", "0．5", True),
    ("7", "𝟕", True),
    ("x^{10}", "x¹⁰", True),
    ("\\{1, 2\\}", "\\｛1、2\\｝", True),
    ("36", "答案是36。", True),
    ("36", "答案：３６", True),
    ("12345", "１２３４６", False),
    ("x=8", "x＝9", False),
    ("35\\%", "36％", False),
    ("(0,5]", "（0，5）", False),
    ("-2", "－3", False),
    ("3:4", "4：3", False),
    ("x^{10}", "x¹¹", False),
    ("36", "答案是37。", False),
    ("36", "答案是36。答案是37。", False),
]
MARKS = [
    ("57", "'57'", True),
    ("57", '"57"', True),
    ("57", "“57”", True),
    ("57", "``57''", True),
    ("\\text{yes}", "'yes'", True),
    ("60^\\circ 30'", "60.5^\\circ", True),
    ("12^\\circ 15' 36''", "12.26^\\circ", True),
    ("45°45′", "45.75°", True),
    ("30^{\\circ} 20^{\\prime}", "\\frac{91}{3}^\\circ", True),
    ("-5./4", "-1.25", True),
    ("(1 + 2.)*x", "3x", True),
    ("2.*x", "2x", True),
    ("3./2", "1.5", True),
    ("(0,1) U (2,3)", "(0,1)\\cup(2,3)", True),
    ("\\mathbb{R}\\setminus\\{0\\}", "\\mathbb{R}-\\{0\\}", True),
    ("57", "'58'", False),
    ("57", "'57", False),
    ("\\text{yes}", "'no'", False),
    ("60^\\circ 30'", "60.3^\\circ", False),
    ("12^\\circ 15' 36''", "12.25^\\circ", False),
    ("45°45′", "45.45°", False),
    ("-5./4", "1.25", False),
    ("3./2", "3", False),
    ("(0,1) U (2,3)", "(0,1) U (2,4)", False),
    ("\\mathbb{R}\\setminus\\{0\\}", "\\mathbb{R}-\\{1\\}", False),
]


@pytest.mark.parametrize(("gold", "answer", "equal"), [*DIGIT_GROUPS, *WIDTHS, *MARKS])
def test_other_ways_to_write_it(gold: str, answer: str, equal: bool) -> None:
    completion = answer if "答" in answer else f"\\boxed{{{answer}}}"
    result = math_answer(Sample(prompt="", completion=completion, gold=gold))
    assert (result.value == 1.0) == equal, result
