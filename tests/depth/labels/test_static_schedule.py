"""Static schedules: the cheapest depth of each block of positions, whatever the request."""

import math
from pathlib import Path

import numpy as np
import torch
from safetensors.torch import save_file

from pipeline.depth.labels.static_schedule import BLOCK, losses_by_place, schedule


def test_losses_are_means_by_block_of_what_was_labelled(tmp_path: Path) -> None:
    first, second = 2 * BLOCK, BLOCK + 1
    losses = torch.full((3, first + second), torch.nan)
    losses[:, 0] = torch.tensor([3.0, 2.0, 1.0])
    losses[:, first + 1] = torch.tensor([1.0, 2.0, 1.0])
    losses[:, first + BLOCK] = torch.tensor([9.0, 0.0, 0.0])
    lengths = torch.tensor([first, second])
    save_file({"losses": losses, "lengths": lengths}, tmp_path / "later")
    assert losses_by_place(tmp_path / "later").tolist() == [[2.0, 9.0], [2.0, 0.0], [1.0, 0.0]]


def test_unlabelled_blocks_are_as_those_before_them(tmp_path: Path) -> None:
    losses = torch.full((2, 3 * BLOCK), torch.nan)
    losses[:, 1] = torch.tensor([1.0, 0.5])
    save_file({"losses": losses, "lengths": torch.tensor([3 * BLOCK])}, tmp_path / "later")
    assert losses_by_place(tmp_path / "later").tolist() == [[1.0] * 3, [0.5] * 3]


def test_a_higher_price_is_never_deeper() -> None:
    losses = np.random.default_rng(0).random((6, 9))
    schedules = [schedule(losses, log_price=p) for p in np.linspace(-9, 3, 25).tolist()]
    means = [sum(s) / len(s) for s in schedules]
    assert means == sorted(means, reverse=True)
    assert schedules[0] == np.repeat(losses.argmin(axis=0) + 1, BLOCK).tolist()
    assert set(schedules[-1]) == {1}
    cheapest = [schedule(losses, log_price=math.log(0.1))[BLOCK * b] for b in range(9)]
    assert cheapest == [
        min(range(1, 7), key=lambda d, b=b: losses[d - 1, b] + 0.1 * d) for b in range(9)
    ]
