"""The best of several products, within a limit of time; no product is computed here."""

import pytest

from pipeline.measure.matmul_speed import SIZES, TRIES, best_gflops


def timed(gflops: float, *, slow_from: int = 10**9) -> tuple[list[int], float]:
    """The sizes that are tried on a machine of a speed, a tenth of it from a size, and the best."""
    sizes = []

    def seconds_of(size: int) -> float:
        sizes.append(size)
        return 2 * size**3 / (gflops * 1e9) * (10 if size >= slow_from else 1)

    return sizes, best_gflops(seconds_of, limit_s=1.0)


def test_a_fast_machine_tries_every_size() -> None:
    sizes, best = timed(5000.0)
    assert sizes == [size for size in SIZES for _ in range(TRIES)]
    assert best == pytest.approx(5000.0)


def test_products_that_would_not_end_in_time_are_left_out() -> None:
    sizes, best = timed(50.0)
    assert max(sizes) == 2048
    assert sum(2 * size**3 / 50e9 for size in sizes) <= 1.0
    assert best == pytest.approx(50.0)


def test_a_machine_slower_than_any_still_has_a_speed() -> None:
    assert timed(0.1) == ([SIZES[0]], pytest.approx(0.1))


def test_the_best_size_counts() -> None:
    assert timed(1000.0, slow_from=2048)[1] == pytest.approx(1000.0)
