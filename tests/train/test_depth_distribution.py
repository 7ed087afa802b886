"""Random training depths have the distributions that they are named after."""

from typing import Any

import pytest
import torch

from pipeline.train.depth_distribution import DepthDistribution


def drawn(distribution: DepthDistribution, *, seed: int = 0, count: int = 40_000) -> torch.Tensor:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return distribution.draw(count)


def test_uniform_depths_are_all_alike() -> None:
    depths = drawn(DepthDistribution(low=2, high=5))
    assert depths.dtype == torch.int64
    shares = depths.bincount().double() / len(depths)
    assert shares[:2].tolist() == [0, 0]
    assert shares[2:].tolist() == pytest.approx([0.25] * 4, abs=0.01)


def test_log_normal_poisson_has_huginns_moments() -> None:
    """Of rate L = exp(N(ln m - s^2 / 2, s)): E[L] = m and Var[L] = m^2 (exp(s^2) - 1), so the depth
    Poisson(L) + 1 has mean m + 1 and variance m + Var[L]."""
    mean, spread = 32.0, 0.5
    depths = drawn(
        DepthDistribution(kind="log_normal_poisson", mean=mean, spread=spread, high=10_000)
    ).double()
    variance = mean + mean**2 * (torch.e ** (spread**2) - 1)
    assert depths.mean() == pytest.approx(mean + 1, rel=0.01)
    assert depths.var() == pytest.approx(variance, rel=0.06)
    assert depths.min() >= 1


def test_draws_past_the_ends_stay_at_the_ends() -> None:
    depths = drawn(DepthDistribution(kind="log_normal_poisson", mean=4.0, low=2, high=6))
    assert (int(depths.min()), int(depths.max())) == (2, 6)
    free = drawn(DepthDistribution(kind="log_normal_poisson", mean=4.0, high=1000))
    assert int((depths == 6).sum()) == int((free >= 6).sum())


def test_the_seed_decides() -> None:
    distribution = DepthDistribution(high=8)
    assert torch.equal(drawn(distribution, seed=3), drawn(distribution, seed=3))
    assert not torch.equal(drawn(distribution, seed=3), drawn(distribution, seed=4))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"low": 0, "high": 4}, "low=0 must lie between 1 and high=4"),
        ({"low": 5, "high": 4}, "low=5 must lie between 1 and high=4"),
        ({"high": 4, "mean": 0.0}, "mean=0.0 must be positive"),
        ({"high": 4, "spread": -1.0}, "spread=-1.0 must not be negative"),
    ],
)
def test_wrong_distributions_name_the_field(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        DepthDistribution(**changes)


def test_a_segments_positions_share_a_depth() -> None:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        depths = DepthDistribution(high=8, segment=4).draw(200, positions=10)
    assert depths.shape == (200, 10)
    assert (depths[:, :4] == depths[:, :1]).all()
    assert (depths[:, 8:] == depths[:, 8:9]).all()
    assert (depths[:, 0] != depths[:, 4]).float().mean() > 0.7
    with pytest.raises(ValueError, match="segment=0"):
        DepthDistribution(high=8, segment=0)
