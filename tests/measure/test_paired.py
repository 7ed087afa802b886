"""Paired tests against brute force, closed forms and what symmetry demands."""

import itertools
import math
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.measure.accuracy import wilson
from pipeline.measure.paired import FINEST, paired_test, sign_flip

Counts = st.tuples(st.integers(0, 4), st.just(4))
Pairs = st.lists(st.tuples(Counts, Counts), min_size=1, max_size=60)


def single(a: int, b: int, c: int, d: int) -> tuple[list[tuple[int, int]], list[tuple[int, int]]]:
    """Both right in `a` prompts, the first alone in `b`, the second alone in `c`, none in `d`."""
    first = [(1, 1)] * (a + b) + [(0, 1)] * (c + d)
    second = [(1, 1)] * a + [(0, 1)] * b + [(1, 1)] * c + [(0, 1)] * d
    return first, second


@pytest.mark.parametrize(("b", "c"), [(0, 0), (0, 5), (9, 2), (40, 61)])
def test_of_single_answers_it_is_mcnemars_exact_test(b: int, c: int) -> None:
    n, low = b + c, min(b, c)
    tail = sum(math.comb(n, k) for k in range(low + 1)) / 2**n
    test = paired_test(*single(200, b, c, 50))
    assert test.p_value == pytest.approx(min(1.0, 2 * tail))
    assert (test.better, test.worse) == (c, b)


@given(st.lists(st.integers(-4, 4), min_size=1, max_size=9))
def test_the_p_value_counts_signs(parts: list[int]) -> None:
    gains = [Fraction(part, 4) for part in parts]
    sums = [
        abs(sum(sign * gain for sign, gain in zip(signs, gains, strict=True)))
        for signs in itertools.product((-1, 1), repeat=len(gains))
    ]
    expected = sum(value >= abs(sum(gains)) for value in sums) / len(sums)
    assert sign_flip(gains) == pytest.approx(expected)


def test_of_single_answers_the_interval_is_newcombes() -> None:
    a, b, c, d = 56, 3, 18, 23
    n = a + b + c + d
    first, second = (a + b) / n, (a + c) / n
    phi = (a * d - b * c) / math.sqrt((a + b) * (c + d) * (a + c) * (b + d))
    (l1, u1), (l2, u2) = wilson(first, n), wilson(second, n)
    left, right = second - l2, u1 - first
    low = second - first - math.sqrt(left**2 - 2 * phi * left * right + right**2)
    left, right = u2 - second, first - l1
    high = second - first + math.sqrt(left**2 - 2 * phi * left * right + right**2)
    test = paired_test(*single(a, b, c, d))
    assert test.delta == pytest.approx(0.15)
    # the number of draws behind an interval is of the spread seen, n - 1 over n of the binomial's
    assert (test.ci_low, test.ci_high) == pytest.approx((low, high), abs=2e-3)


@given(Pairs)
def test_turned_round_it_says_the_opposite(pairs: list[tuple[tuple[int, int], ...]]) -> None:
    first, second = zip(*pairs, strict=True)
    test, other = paired_test(first, second), paired_test(second, first)
    assert test.delta == pytest.approx(-other.delta)
    assert (test.ci_low, test.ci_high) == pytest.approx((-other.ci_high, -other.ci_low))
    assert test.p_value == other.p_value
    assert -1.0 <= test.ci_low <= test.delta + 1e-9
    assert test.delta - 1e-9 <= test.ci_high <= 1.0


def test_a_model_beside_itself_shows_nothing() -> None:
    counts = [(k % 5, 4) for k in range(300)]
    test = paired_test(counts, counts)
    assert (test.delta, test.p_value, test.better, test.worse) == (0.0, 1.0, 0, 0)
    assert test.ci_high - test.ci_low < 1e-6  # the answers are the same: nothing varies


def test_of_equal_models_five_in_a_hundred_are_told_apart() -> None:
    rng = np.random.default_rng(0)
    told, covered, trials = 0, 0, 400
    for _ in range(trials):
        ease = rng.uniform(0.2, 0.8, size=80)
        sides = [[(int(rng.binomial(4, p)), 4) for p in ease] for _ in range(2)]
        test = paired_test(*sides)
        told += test.p_value < 0.05
        covered += test.ci_low <= 0.0 <= test.ci_high
    assert told <= 0.05 * trials + 3 * math.sqrt(0.05 * 0.95 * trials)
    assert covered >= 0.95 * trials - 3 * math.sqrt(0.05 * 0.95 * trials)


def test_samples_of_unequal_number_are_rounded_to_a_grid() -> None:
    gains = [Fraction(1, 61), Fraction(-1, 63), Fraction(3, 64), Fraction(5, 7)]
    rounded = [Fraction(round(gain * FINEST), FINEST) for gain in gains]
    assert sign_flip(gains) == sign_flip(rounded)


def test_what_does_not_pair_up_is_refused() -> None:
    with pytest.raises(ValueError, match="1 and 2 prompts do not pair up"):
        paired_test([(1, 1)], [(1, 1), (0, 1)])
    with pytest.raises(ValueError, match="0 and 0"):
        paired_test([], [])
