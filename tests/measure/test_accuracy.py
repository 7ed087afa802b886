"""Accuracy arithmetic against brute force and known values."""

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.measure.accuracy import interval, pass_at_k, wilson


@given(st.integers(1, 7), st.data())
def test_pass_at_k_is_the_share_of_subsets_with_a_success(n: int, data: st.DataObject) -> None:
    correct = data.draw(st.integers(0, n))
    k = data.draw(st.integers(1, n))
    marks = [1] * correct + [0] * (n - correct)
    subsets = list(itertools.combinations(marks, k))
    assert pass_at_k(correct, n, k) == pytest.approx(sum(map(max, subsets)) / len(subsets))


def test_pass_at_k_needs_k_samples() -> None:
    with pytest.raises(ValueError, match="at least 5"):
        pass_at_k(1, 4, 5)


def test_wilson_known_value() -> None:
    low, high = wilson(0.5, 100)
    assert (round(low, 4), round(high, 4)) == (0.4038, 0.5962)


def test_repeated_samples_do_not_narrow_the_interval() -> None:
    """Four identical samples of each problem say no more than one."""
    single = interval([1.0] * 30 + [0.0] * 70)
    assert single[0] == 0.3
    assert single[2] - single[1] == pytest.approx(0.177, abs=0.002)


@given(st.lists(st.sampled_from([0.0, 0.25, 0.5, 0.75, 1.0]), min_size=1, max_size=50))
def test_interval_holds_the_mean(values: list[float]) -> None:
    mean, low, high = interval(values)
    assert 0.0 <= low <= mean + 1e-12
    assert mean - 1e-12 <= high <= 1.0
