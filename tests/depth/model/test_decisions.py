"""The decisions behind recorded depths: what was decided, what it led to, and nothing lost."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.depth.model.decisions import decisions_of, remaining_iterations

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


@given(depths=DEPTHS)
def test_the_first_decisions_answer_for_all_iterations_but_the_first(depths: list[int]) -> None:
    made = decisions_of(depths, cap=CAP)
    left = remaining_iterations(made, depths)
    assert len(depths) + left[made.iteration == 1].sum() == sum(depths)
    assert (left[~made.goes_on] == 0).all()
    assert (left[made.goes_on] >= 1).all()
