"""Random numbers as a function of where they are used, so that a recorded rollout replays.

A draw depends on (seed, position, iteration, stream) and on nothing else: not on the batch, not on
the engine, not on what was drawn before. The mixing function is SplitMix64 (Steele, Lea and Flood,
OOPSLA 2014), in two's-complement 64-bit integers.
"""

import math

import torch
from torch import Tensor

TOKEN, DEPTH, STATE, PATH = 0, 1, 2, 3
"""Streams: the draw of a token, of a halting decision, of an initial state, of a path's noise."""

_GOLDEN = 0x9E3779B97F4A7C15 - 2**64
_MIX_1 = 0xBF58476D1CE4E5B9 - 2**64
_MIX_2 = 0x94D049BB133111EB - 2**64


def uniform(seed: Tensor, position: Tensor, iteration: Tensor | int, *, stream: int) -> Tensor:
    """Uniform draws in [0, 1), float64, of the shape that the integer arguments broadcast to."""
    return _drawn(seed, position, iteration, stream)


def normal(seed: Tensor, position: Tensor, *, width: int, bound: float = 3.0) -> Tensor:
    """Standard normal draws truncated at `bound`, float32 [..., width], by the inverse CDF."""
    channel = torch.arange(width, device=position.device)
    return _normal(_drawn(seed[..., None], position[..., None], channel, STATE), bound)


def path_noise(
    seed: Tensor, position: Tensor, iteration: Tensor, path: Tensor, *, width: int
) -> Tensor:
    """Standard normal draws, float32 [N, width], of paths before iterations; all arguments [N]."""
    channel = torch.arange(width, device=position.device)
    keys = (key[:, None] for key in (seed, position, iteration))
    return _normal(_drawn(*keys, PATH, path[:, None], channel), bound=8.0)


def _drawn(seed: Tensor, *keys: Tensor | int) -> Tensor:
    word = _mix(seed.long() + _GOLDEN)
    for key in keys:
        word = _mix(word + _GOLDEN + key)
    return _shift(word, 11).double() * 2.0**-53


def _normal(draws: Tensor, bound: float) -> Tensor:
    tail = 0.5 * (1.0 + math.erf(-bound / math.sqrt(2.0)))
    return torch.special.ndtri(tail + draws * (1.0 - 2.0 * tail)).float()


def _mix(word: Tensor) -> Tensor:
    word = (word ^ _shift(word, 30)) * _MIX_1
    word = (word ^ _shift(word, 27)) * _MIX_2
    return word ^ _shift(word, 31)


def _shift(word: Tensor, bits: int) -> Tensor:
    """Logical right shift: torch's own keeps the sign."""
    return (word >> bits) & ((1 << (64 - bits)) - 1)
