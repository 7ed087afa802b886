"""The speed of torch's matrix products here."""

import functools
import os
import time

import torch

from pipeline.measure.matmul_speed import LIMIT_S, best_gflops


@functools.cache
def matmul_gflops(*, threads: int, device: str, dtype: torch.dtype) -> float:
    """GFLOP/s of the best square product, measured once in this process. Draws no random number."""
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    squares: dict[int, torch.Tensor] = {}

    def seconds_of(size: int) -> float:
        square = squares.get(size)
        if square is None:
            square = squares[size] = torch.full((size, size), 0.5, dtype=dtype, device=device)
            _product(square)  # the first of a size also prepares kernels
        return _product(square)

    best = best_gflops(seconds_of, limit_s=LIMIT_S)
    torch.set_num_threads(before)
    return best


def _product(square: torch.Tensor) -> float:
    """Seconds of the square times itself."""
    start = time.perf_counter()
    torch.mm(square, square)
    if square.is_cuda:
        torch.cuda.synchronize()
    return time.perf_counter() - start


def measured() -> str:
    """GFLOP/s with as many threads as this process may use cores."""
    cores = len(os.sched_getaffinity(0))
    best = matmul_gflops(threads=cores, device="cpu", dtype=torch.float32)
    return f"{best:.1f}"
