"""Draws are a function of where they are used: stable, uniform, independent, free of the batch."""

import math

import pytest
import torch
from torch import Tensor

from pipeline.recurrent.counter import DEPTH, PATH, STATE, TOKEN, normal, path_noise, uniform

WORD = 2**64 - 1


def mixed(word: int) -> int:
    """SplitMix64's finalizer (Steele, Lea and Flood, OOPSLA 2014, figure 16), unsigned."""
    word = (word ^ word >> 30) * 0xBF58476D1CE4E5B9 & WORD
    word = (word ^ word >> 27) * 0x94D049BB133111EB & WORD
    return word ^ word >> 31


def by_hand(seed: int, *keys: int) -> float:
    word = mixed(seed + 0x9E3779B97F4A7C15 & WORD)
    for key in keys:
        word = mixed(word + 0x9E3779B97F4A7C15 + key & WORD)
    return (word >> 11) / 2**53


def at(*values: int) -> Tensor:
    return torch.tensor(values)


@pytest.mark.parametrize(
    ("seed", "position", "iteration", "stream"),
    [(0, 0, 0, TOKEN), (7, 3, 2, DEPTH), (2**62, 10**6, 64, DEPTH), (-5, 1, 1, STATE)],
)
def test_integers_wrap_as_unsigned_ones(
    seed: int, position: int, iteration: int, stream: int
) -> None:
    (drawn,) = uniform(at(seed), at(position), iteration, stream=stream).tolist()
    assert drawn == by_hand(seed, position, iteration, stream)


def test_values_never_change() -> None:
    """Recorded rollouts replay only while these hold."""
    drawn = uniform(at(0, 7, 2**62), at(0, 3, 10**6), at(0, 2, 64), stream=DEPTH)
    assert drawn.dtype == torch.float64
    assert drawn[1:].tolist() == [
        float.fromhex("0x1.45417ff821b33p-1"),
        float.fromhex("0x1.fdbae420925aap-2"),
    ]
    assert uniform(at(0), at(0), 0, stream=TOKEN).item().hex() == "0x1.0983a45556400p-3"
    assert normal(at(3), at(5), width=4)[0].tolist() == pytest.approx(
        [1.06817317, 0.80132073, 0.19880109, -0.45604321], abs=1e-6
    )


def test_draws_are_uniform_and_unrelated() -> None:
    seeds = torch.arange(20_000)
    base = uniform(seeds, at(4), 2, stream=DEPTH)
    counts = torch.histc(base, bins=20, min=0, max=1)
    chi_square = ((counts - 1000) ** 2 / 1000).sum()
    assert chi_square < 43.8  # the 99.9 % point with 19 degrees of freedom
    neighbours = [
        uniform(seeds + 1, at(4), 2, stream=DEPTH),
        uniform(seeds, at(5), 2, stream=DEPTH),
        uniform(seeds, at(4), 3, stream=DEPTH),
        uniform(seeds, at(4), 2, stream=TOKEN),
        uniform(seeds, at(2), 4, stream=DEPTH),
    ]
    for other in neighbours:
        correlation = torch.corrcoef(torch.stack((base, other)))[0, 1]
        assert abs(correlation) < 4 / math.sqrt(20_000)


def test_the_batch_is_not_part_of_a_draw() -> None:
    seeds, positions = torch.arange(12).view(4, 3), torch.arange(3)
    whole = uniform(seeds, positions, 1, stream=DEPTH)
    assert whole.shape == (4, 3)
    assert torch.equal(whole[2:], uniform(seeds[2:], positions, 1, stream=DEPTH))
    assert torch.equal(whole[1, 2], uniform(seeds[1, 2], positions[2], 1, stream=DEPTH))
    states = normal(seeds, positions, width=5)
    assert states.shape == (4, 3, 5)
    assert torch.equal(states[3, 1], normal(seeds[3, 1], positions[1], width=5))


def test_normal_draws_are_truncated_normal() -> None:
    drawn = normal(torch.zeros(1, dtype=torch.long), torch.arange(2000), width=16, bound=2.0)
    assert drawn.dtype == torch.float32
    assert drawn.abs().max() <= 2.0
    assert abs(drawn.mean()) < 0.02
    # Var of N(0, 1) truncated at 2: 1 - 2 * 2 phi(2) / (2 Phi(2) - 1)
    assert drawn.var() == pytest.approx(0.7737, abs=0.02)


def test_a_paths_noise_is_normal_and_its_own() -> None:
    many = torch.arange(4000)
    drawn = path_noise(many, at(3), at(2), at(1), width=8)
    assert drawn.dtype == torch.float32
    assert drawn.shape == (4000, 8)
    assert abs(drawn.mean()) < 0.02
    assert drawn.var() == pytest.approx(1.0, abs=0.03)
    assert drawn.pow(4).mean() == pytest.approx(3.0, abs=0.2)
    for other in ((many + 1, 3, 2, 1), (many, 4, 2, 1), (many, 3, 3, 1), (many, 3, 2, 2)):
        seed, *rest = other
        again = path_noise(torch.as_tensor(seed), *(at(one) for one in rest), width=8)  # type: ignore[arg-type]
        pair = torch.stack((drawn.flatten(), again.flatten()))
        assert abs(torch.corrcoef(pair)[0, 1]) < 4 / math.sqrt(32_000)
    assert torch.equal(path_noise(many[7:8], at(3), at(2), at(1), width=8), drawn[7:8])


def test_a_paths_noise_never_changes() -> None:
    drawn = path_noise(at(7), at(3), at(2), at(1), width=2)[0].tolist()
    by_keys = [by_hand(7, 3, 2, PATH, 1, channel) for channel in (0, 1)]
    expected = torch.special.ndtri(torch.tensor(by_keys, dtype=torch.float64)).tolist()
    assert drawn == pytest.approx(expected, abs=1e-6)
