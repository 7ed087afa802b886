"""How fast a machine multiplies square matrices, from what products took. Pure."""

from collections.abc import Callable

SIZES = (512, 1024, 2048, 4096)
TRIES = 5
LIMIT_S = 0.4  # of a trainer or the doctor, once in their lives


def best_gflops(seconds_of: Callable[[int], float], *, limit_s: float) -> float:
    """The best rate among products of growing size, in about `limit_s` seconds altogether.

    `seconds_of(n)` is what one product of two n x n matrices took: 2 n^3 FLOPs. A product that at
    the best rate so far would not end in time is left out.

    >>> best_gflops(lambda size: 2 * size**3 / 50e9, limit_s=1.0)
    50.0
    """
    best, left_s = 0.0, limit_s
    for size in SIZES:
        flops = 2 * size**3
        for _ in range(TRIES):
            if best and flops / best > left_s:
                break
            seconds = seconds_of(size)
            left_s -= seconds
            best = max(best, flops / seconds)
    return best / 1e9
