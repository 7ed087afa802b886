"""Credit for halting decisions: what was decided, what it led to, and nothing lost."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from pipeline.depth.rl.credit import (
    cost_advantages,
    decisions_of,
    leave_one_out_advantages,
    outcome_advantages,
    remaining_iterations,
)

CAP = 6
DEPTHS = st.lists(st.integers(1, CAP), min_size=1, max_size=12)


def test_a_token_decides_after_every_iteration_but_the_caps() -> None:
    made = decisions_of([1, 3, 6], cap=6)
    assert made.token.tolist() == [0, 1, 1, 1, 2, 2, 2, 2, 2]
    assert made.iteration.tolist() == [1, 1, 2, 3, 1, 2, 3, 4, 5]
    assert made.goes_on.tolist() == [False, True, True, False] + [True] * 5


def test_a_segment_decides_once() -> None:
    made = decisions_of([2, 2, 2, 1, 1], cap=3, segment=3)
    assert made.token.tolist() == [0, 0, 3]
    assert remaining_iterations(made, [2, 2, 2, 1, 1], segment=3).tolist() == [3, 0, 0]


def test_a_depth_that_no_policy_chooses_is_refused() -> None:
    with pytest.raises(ValueError, match="token 1 ran 7 iterations, outside 1 to 6"):
        decisions_of([1, 7], cap=6)


@given(depths=DEPTHS, least=st.integers(1, 3))
def test_cost_credit_sums_to_the_rollouts_cost(depths: list[int], least: int) -> None:
    depths = [max(depth, least) for depth in depths]
    made = decisions_of(depths, cap=CAP, min_depth=least)
    left = remaining_iterations(made, depths)
    first = made.iteration == least
    assert least * len(depths) + left[first].sum() == sum(depths)
    assert (left[~made.goes_on] == 0).all()
    assert (left[made.goes_on] >= 1).all()


def test_outcome_advantages_are_centred_and_keep_their_scale() -> None:
    rewards = torch.tensor([1.0, 0.0, 0.0, 0.0])
    assert outcome_advantages(rewards).tolist() == [0.75, -0.25, -0.25, -0.25]
    assert outcome_advantages(rewards / 10).tolist() == pytest.approx([0.075] + [-0.025] * 3)
    assert leave_one_out_advantages(rewards).tolist() == pytest.approx([1.0] + [-1 / 3] * 3)


def test_cost_advantages_compare_decisions_at_one_iteration() -> None:
    remaining = torch.tensor([4.0, 2.0, 3.0, 1.0])
    iteration = torch.tensor([1, 1, 2, 2])
    assert cost_advantages(remaining, iteration).tolist() == [1.0, -1.0, 1.0, -1.0]
