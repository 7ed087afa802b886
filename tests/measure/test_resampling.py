"""Draws of problems and seeds: widths that theory gives, the same for all that is compared."""

import itertools

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.measure.resampling import draws_of, interval_of, sign_flip_p


def test_an_interval_of_a_mean_has_the_width_that_theory_gives() -> None:
    values = np.random.default_rng(1).normal(size=(400, 1, 1))
    draws = draws_of([0] * 400, seeds=1, resamples=2000, seed=5)
    interval = interval_of(draws.curves(values)[:, 0, 0])
    width = 1.96 * values.std() / 20
    assert interval.estimate == pytest.approx(values.mean())
    assert interval.high - interval.estimate == pytest.approx(width, rel=0.1)
    assert interval.estimate - interval.low == pytest.approx(width, rel=0.1)


def test_seeds_are_drawn_beside_problems() -> None:
    values = np.random.default_rng(2).normal(size=(6, 50, 2, 1))
    draws = draws_of([0, 1] * 25, seeds=6, resamples=300)
    curves = draws.curves(values)
    assert curves[0] == pytest.approx(values.mean(axis=(0, 1)))
    by_hand = np.einsum("s,p,spkc->kc", draws.seeds[7], draws.problems[7], values)
    assert curves[7] == pytest.approx(by_hand)
    seeds_apart = values + 3 * np.arange(6)[:, None, None, None]
    assert np.ptp(draws.curves(seeds_apart)[1:, 0, 0]) > 2 * np.ptp(curves[1:, 0, 0])


def test_halves_keep_their_sizes_and_stay_apart() -> None:
    half = [0] * 7 + [1] * 3
    draws = draws_of(half, seeds=1, resamples=50)
    by_half = [draws.problems[:, np.array(half) == label].sum(axis=1) for label in (0, 1)]
    assert by_half[0] == pytest.approx(0.7)
    values = np.array(half, dtype=float)[:, None, None]
    assert draws.curves(values, half=0) == pytest.approx(0)
    assert draws.curves(values, half=1) == pytest.approx(1)


def test_nothing_cannot_be_drawn_from() -> None:
    with pytest.raises(ValueError, match="0 problems and 2 seeds"):
        draws_of([], seeds=2)


@given(st.lists(st.integers(-8, 8), min_size=5, max_size=8))
def test_the_exact_test_counts_all_signs(eighths: list[int]) -> None:
    """Sums of eighths are exact, so ties are ties."""
    sums = [
        sum(s * g for s, g in zip(signs, eighths, strict=True))
        for signs in itertools.product((1, -1), repeat=len(eighths))
    ]
    share = sum(total >= sum(eighths) for total in sums) / len(sums)
    assert sign_flip_p([gain / 8 for gain in eighths]) == share


def test_few_seeds_have_no_exact_test() -> None:
    assert sign_flip_p([1.0] * 4) is None
    assert sign_flip_p([1.0] * 6) == 1 / 64
