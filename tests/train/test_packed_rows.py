"""Completions as forward passes: a prompt once, every token predicted once, within the budget."""

from hypothesis import given
from hypothesis import strategies as st

from pipeline.train.packed_rows import Completion, budget_of, pack, split


def completion(prompt: list[int], tokens: list[int], depths: list[int] | None = None) -> Completion:
    return Completion(
        prompt=tuple(prompt),
        tokens=tuple(tokens),
        logprobs=tuple(-float(t) for t in tokens),
        advantage=float(len(tokens)),
        depths=None if depths is None else tuple(depths),
    )


def test_a_prompt_stands_once_before_its_samples() -> None:
    rows = pack([completion([1, 2, 3], [4, 5]), completion([1, 2, 3], [6]), completion([9], [7])])
    assert rows.ids.tolist() == [[1, 2, 3, 4, 3, 9]]
    assert rows.positions.tolist() == [[0, 1, 2, 3, 2, 0]]
    assert rows.predicting.tolist() == [2, 3, 4, 5]
    assert rows.targets.tolist() == [4, 5, 6, 7]
    assert rows.rows.tolist() == [0, 0, 1, 2]
    assert rows.lengths.tolist() == [2, 1, 1]
    assert rows.advantages.tolist() == [2.0, 2.0, 1.0, 1.0]
    assert rows.depths is None


def test_prompts_that_ran_at_other_depths_are_others() -> None:
    pair = [completion([1, 2, 3], [4], [5, 5, 1]), completion([1, 2, 3], [4], [5, 5, 2])]
    other = completion([1, 2, 3], [4], [5, 4, 2])
    assert pack(pair).ids.tolist() == [[1, 2, 3, 3]]
    rows = pack([*pair, other])
    assert rows.ids.tolist() == [[1, 2, 1, 2, 3, 3, 3]]
    assert rows.depths is not None
    assert rows.depths.tolist() == [[5, 5, 5, 4, 1, 2, 2]]


@given(
    st.lists(
        st.tuples(st.integers(0, 3), st.integers(1, 6), st.integers(1, 9)), min_size=1, max_size=30
    ),
    st.integers(1, 6),
)
def test_every_completion_is_in_one_pass_and_passes_fit(
    shapes: list[tuple[int, int, int]], rows: int
) -> None:
    every = [completion([20 + group] * size, [7] * length) for group, size, length in shapes]
    budget = budget_of(every, rows=rows)
    parts = list(split(every, budget=budget))
    assert [c for part in parts for c in part] == every
    for part in parts:
        assert pack(part).ids.shape[1] <= budget
    assert len(parts) <= -(-len(every) // rows)  # never more passes than padded rows would take
