"""How fast torch multiplies square float32 matrices on this machine. As a program, as doctor runs
it, it prints GFLOP/s."""

import os
import time
from collections.abc import Callable

SIZES = (512, 1024, 2048, 4096)
TRIES = 5
LIMIT_S = 1.0


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


def main() -> None:
    """Measure with as many threads as this process may use cores."""
    import torch

    torch.set_num_threads(len(os.sched_getaffinity(0)))
    squares = {size: torch.rand(size, size) for size in SIZES}

    def seconds_of(size: int) -> float:
        start = time.perf_counter()
        torch.mm(squares[size], squares[size])
        return time.perf_counter() - start

    print(f"{best_gflops(seconds_of, limit_s=LIMIT_S):.1f}")


if __name__ == "__main__":
    main()
