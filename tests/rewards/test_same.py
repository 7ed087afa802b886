"""When a returned value or a printed text is what its test expects."""

from typing import Any

import pytest

from rewards.sandbox.decode import Items, Opaque
from rewards.sandbox.same import Rules, same_output, same_value

ITERATOR = Items("iterator", [1, 2])


@pytest.mark.parametrize(
    ("value", "expected", "same"),
    [
        ((1, 2), [1, 2], True),
        ([(1, 2), (3,)], [[1, 2], [3]], True),
        ((1, 2), [2, 1], False),
        ((1,), [1, 2], False),
        (ITERATOR, [1, 2], True),
        (Items("deque", [1]), [1], True),
        (Items("dict_values", [1]), [1], True),
        (range(3), [0, 1, 2], True),
        (range(10**12), [0, 1, 2], False),
        (ITERATOR, [1], False),
        ({1, 2}, [1, 2], False),
        ("ab", ["a", "b"], False),
        ({1: "a", None: 2}, {"1": "a", "null": 2}, True),
        ({"a": (1,)}, {"a": [1]}, True),
        ({"a": 1, "b": 2}, {"a": 1}, False),
        (0.1 + 0.2, 0.3, True),
        (0.3000001, 0.3, False),
        ([0.1 + 0.2], [0.3], True),
        (1 / 3, 0.333333, True),
        (0.3334, 0.333333, False),
        (1.3e-12, 1.2e-12, False),
        (0.0, 1e-12, False),
        (6.0, 6, True),
        (5.9999999999, 6, False),
        (float("nan"), float("nan"), True),
        (float("inf"), 1e300, False),
        (None, [], False),
        (Opaque(), "x", False),
        (1, True, True),
        ("0.3", 0.3, False),
        (10**400, 0.5, False),
    ],
)
def test_values_of_json(value: Any, expected: Any, same: bool) -> None:
    assert same_value(value, expected, Rules(), json=True) is same


@pytest.mark.parametrize(
    ("value", "expected", "tolerance", "same"),
    [
        ((1, 2), [1, 2], None, False),
        ((1, 2), (1, 2), None, True),
        (ITERATOR, [1, 2], None, False),
        (0.1 + 0.2, 0.3, None, False),
        (0.1 + 0.2, 0.3, 1e-6, True),
        ([(0.1 + 0.2,)], [(0.3,)], 1e-6, True),
        ([[0.1 + 0.2]], [(0.3,)], 1e-6, False),
        ({"a": 2.0000001}, {"a": 2}, 1e-6, True),
        ({"a": 2.1}, {"a": 2}, 1e-6, False),
        (1_000_000.5, 1_000_000.0, 1e-6, True),
        (1_000_002.0, 1_000_000.0, 1e-6, False),
        (True, 1.0000001, 1e-6, False),
    ],
)
def test_values_of_test_code(
    value: Any, expected: Any, tolerance: float | None, same: bool
) -> None:
    assert same_value(value, expected, Rules(tolerance=tolerance), json=False) is same


@pytest.mark.parametrize(
    ("output", "expected", "same"),
    [
        ("a b", "a b \n\n", True),
        ("a\nb\n", "a\r\nb\r\n", True),
        ("1\n1\n2", "1 1 2", False),
        ("a  b", "a b", False),
        ("\na", "a", False),
        ("0.3333333333333333", "0.333333333", True),
        ("0.3333333333333333", "0.333333", True),
        ("0.3334", "0.333333", False),
        ("0.30000000000000004", "0.3", True),
        ("0.46", "0.5", False),
        ("1234567.88", "1234567.89", False),
        ("x 0.30000000000000004 y", "x 0.3 y", True),
        ("6.0", "6", False),
        ("1e5", "100000", False),
        ("nan", "0.5", False),
        ("0.5" + "0" * 500, "0.5", False),
        ("", "", True),
    ],
)
def test_output_by_lines(output: str, expected: str, same: bool) -> None:
    assert same_output(output, expected, Rules()) is same


@pytest.mark.parametrize(
    ("output", "expected", "rules", "same"),
    [
        ("1\n1\n2", "1 1 2", Rules(compare="tokens"), True),
        ("1 1", "1 1 2", Rules(compare="tokens"), False),
        (" a\t b", "a b", Rules(compare="tokens"), True),
        ("a\n", "a", Rules(compare="exact"), False),
        ("a\n", "a\n", Rules(compare="exact"), True),
        ("0.3001", "0.3", Rules(tolerance=1e-3), True),
        ("0.3001", "0.3", Rules(tolerance=1e-6), False),
        ("6.0000001", "6", Rules(tolerance=1e-6), True),
        ("0.30000000000000004", "0.3", Rules(tolerance=0), False),
        ("0.30000000000000004", "0.3", Rules(compare="exact"), False),
        ("1.0 x", "1 y", Rules(tolerance=1e-6), False),
    ],
)
def test_output_by_other_rules(output: str, expected: str, rules: Rules, same: bool) -> None:
    assert same_output(output, expected, rules) is same
