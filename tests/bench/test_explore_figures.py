"""The figures of the benchmark of exploration, on invented answers."""

import doctest

import pytest

from tests.bench import explore_figures
from tests.bench.explore_figures import figures


def test_examples_in_the_text() -> None:
    assert doctest.testmod(explore_figures).failed == 0


def test_a_method_is_beside_one_path_on_the_same_problems() -> None:
    row = figures([1.0, 1.0, 0.5, 0.0], [3e6, 5e6, 4e6, 4e6], [1.0, 0.0, 0.0, 0.0], noise=0.1)
    assert row["accuracy"] == 0.625
    assert row["mflops"] == 4.0
    assert row["noise"] == 0.1
    delta, low, high = row["points_over_one_path"]
    assert delta == pytest.approx(37.5)
    assert low < delta < high
