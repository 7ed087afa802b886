"""Depths by position alone, the same for every request: static skipping, from labels. Pure.

Loads no ML library. A core whose layers are shared has no layers of its own to skip, so what can be
skipped are iterations, and all that a schedule can tell apart is where a token stands.
"""

import math
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from safetensors.numpy import load_file

BLOCK = 4
"""Tokens of one depth: what labels of a few hundred completions can tell apart; ours."""

Floats = NDArray[np.float64]


def losses_by_place(path: Path) -> Floats:
    """[_R, _B] mean loss in nats by depth and block of positions, from the labels' losses.

    Blocks that no label fell into are what the block before them is.
    """
    held = load_file(path)
    losses = held["losses"].astype(np.float64)
    places = np.concatenate([np.arange(int(length)) for length in held["lengths"]]) // BLOCK
    usable = np.isfinite(losses).all(axis=0)
    blocks = int(places.max()) + 1
    means = np.full((len(losses), blocks), np.nan)
    for block in range(blocks):
        inside = usable & (places == block)
        if inside.any():
            means[:, block] = losses[:, inside].mean(axis=1)
        elif block:
            means[:, block] = means[:, block - 1]
    return np.nan_to_num(means)


def schedule(losses: Floats, *, log_price: float) -> list[int]:
    """The depth of every token, that with the least loss at exp(log_price) nats an iteration; the
    shallowest of equals."""
    depths = np.arange(1, len(losses) + 1)
    best = (losses + math.exp(log_price) * depths[:, None]).argmin(axis=0) + 1
    return np.repeat(best, BLOCK).tolist()
