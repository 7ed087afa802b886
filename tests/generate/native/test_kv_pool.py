"""The pool: what a row sees at each iteration, and that memory comes back."""

import numpy as np
import pytest
import torch

from pipeline.generate.native.kv_pool import KvPool
from pipeline.recurrent.config import RecurrentConfig

CONFIG = RecurrentConfig(hidden_size=64, num_attention_heads=2, num_iterations=2, max_iterations=4)


def pool(*, gib: float = 0.01) -> KvPool:
    return KvPool(CONFIG, rows=2, positions=8, gib=gib, dtype=torch.float32, device="cpu")


def test_a_token_that_left_shows_its_last_entry_deeper() -> None:
    held, row, position = pool(), np.array([1]), np.array([3])
    taken = [held.core.take(1) for _ in range(2)]
    for plane, entry in enumerate(taken):
        held.write_core(row, np.array([plane]), position, entry)
    held.fill_deeper(row, np.array([2]), position, taken[-1])
    first, last = (int(entry[0]) for entry in taken)
    assert held.core_table[4:, 3].tolist() == [first, last, last, last]
    assert held.core_table[:4].count_nonzero() == 0


def test_release_gives_every_entry_back_once() -> None:
    held = pool()
    rows, total = np.array([0]), held.core.entries
    for at, depth in ((2, 3), (3, 1)):
        position = np.array([at])
        held.write_dense(rows, position, held.dense.take(1))
        entry = held.core.take(1)
        held.write_core(rows, np.array([0]), position, entry)
        for plane in range(1, depth):
            entry = held.core.take(1)
            held.write_core(rows, np.array([plane]), position, entry)
        held.fill_deeper(rows, np.array([depth]), position, entry)
    assert held.core.free == total - 4
    held.release(0, start=2, held=np.array([3, 1]))
    assert held.core.free == total
    assert held.dense.free == held.dense.entries
    assert len(set(held.core.take(total).tolist())) == total


def test_sizes_follow_the_budget_and_the_need() -> None:
    assert pool(gib=1.0).core.entries == 2 * 8 * 4  # every position at the deepest
    assert pool(gib=1.0).dense.entries == 2 * 8
    entry = 2 * 64 * 4
    assert pool(gib=5 * (2 + 2 * 2) * entry / 2**30).dense.entries == 5
    with pytest.raises(ValueError, match="holds no position of this model"):
        pool(gib=1e-9)
