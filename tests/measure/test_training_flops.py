"""FLOPs of tokens against closed forms, and the row that says how fast they were."""

import pytest

from pipeline.measure.training_flops import Tokens, dense_cost, forward_flops, speed_row


def test_a_sequence_costs_what_palm_counts() -> None:
    """Trained: 6 N a token, and 12 L H Q a pair of tokens (arXiv 2204.02311, appendix B)."""
    cost = dense_cost(weights=900.0, head=100.0, layers=3, heads=4, head_size=8)
    length = 7
    tokens = Tokens(tokens=length, pairs=length * length, read=length)
    palm = length * (6 * 1000 + 12 * 3 * 4 * 8 * length)
    assert 3 * forward_flops(cost, tokens) == palm


def test_a_row_has_a_share_only_of_a_known_speed_and_nothing_of_nothing() -> None:
    row = speed_row(tokens=4, flops=3e9, seconds=1.5, gflops=0.0)
    assert row == {"training_tokens": 4, "training_gflops_per_s": pytest.approx(2.0)}
    for tokens, flops, seconds in ((0, 3e9, 1.0), (4, 0.0, 1.0), (4, 3e9, 0.0)):
        assert speed_row(tokens=tokens, flops=flops, seconds=seconds, gflops=1.0) == {}
