"""Random training depths: every number alike."""

import pytest
import torch

from pipeline.train.depth_distribution import DepthDistribution


def drawn(distribution: DepthDistribution, *, seed: int = 0, count: int = 40_000) -> torch.Tensor:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return distribution.draw(count)


def test_uniform_depths_are_all_alike() -> None:
    depths = drawn(DepthDistribution(high=4))
    assert depths.dtype == torch.int64
    shares = depths.bincount().double() / len(depths)
    assert shares[0] == 0
    assert shares[1:].tolist() == pytest.approx([0.25] * 4, abs=0.01)


def test_the_seed_decides() -> None:
    distribution = DepthDistribution(high=8)
    assert torch.equal(drawn(distribution, seed=3), drawn(distribution, seed=3))
    assert not torch.equal(drawn(distribution, seed=3), drawn(distribution, seed=4))


def test_a_wrong_distribution_names_the_field() -> None:
    with pytest.raises(ValueError, match="high=0 must be at least 1"):
        DepthDistribution(high=0)


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
