"""Exploration as arithmetic: who goes on, and what it costs."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.recurrent.explore import Exploration, exploration_flops
from pipeline.recurrent.shape import RecurrentShape, iteration_flops, policy_flops, readout_flops

SHAPE = RecurrentShape(
    hidden=64,
    mlp=192,
    heads=2,
    kv_heads=1,
    head_size=32,
    prelude=1,
    core=2,
    coda=1,
    vocabulary=100,
    injection="gated",
    num_iterations=8,
    max_iterations=8,
    halting_width=16,
)


def test_paths_halve_down_to_two() -> None:
    eight = Exploration(paths=8, noise=0.1)
    assert [eight.alive(i) for i in range(1, 8)] == [1, 8, 4, 2, 2, 2, 2]
    assert [Exploration(paths=5, noise=0.1, keep=1.0).alive(i) for i in (1, 2, 8)] == [1, 5, 5]
    assert [Exploration(paths=5, noise=0.1, keep=0.2).alive(i) for i in (2, 3)] == [5, 2]
    assert [Exploration(paths=1, noise=0.1).alive(i) for i in (1, 2, 3)] == [1, 1, 1]
    assert [Exploration(paths=30, noise=0.1, keep=0.1).alive(i) for i in (2, 3)] == [30, 3]


@given(
    paths=st.integers(1, 12),
    keep=st.floats(0.05, 1.0),
    depth=st.integers(1, 9),
)
def test_a_tournament_costs_what_is_said(paths: int, keep: float, depth: int) -> None:
    """Played out: iterations run, states judged, and entries held, of one token."""
    exploration = Exploration(paths=paths, noise=0.1, keep=keep)
    others, runs, looks, held, most = paths - 1, 0, 0, 0, 0
    for iteration in range(2, depth + 1):
        runs += others
        held += others
        most = max(most, held)
        if iteration == depth:
            looks += others + 1 if others else 0
            break
        left = exploration.alive(iteration + 1) - 1
        assert min(others, 1) <= left <= others
        if left < others:
            looks += others
            held -= (others - left) * (iteration - 1)
            others = left
    assert exploration.runs(depth) == runs
    assert exploration.looks(depth) == looks
    assert exploration.spare_entries(depth) == most


@pytest.mark.parametrize("head_width", [None, 24])
def test_flops_in_closed_form(head_width: int | None) -> None:
    """N paths that all run to depth d: (N - 1)(d - 1) further iterations and N looks a token."""
    prompt, tokens, depth, paths = 7, 5, 6, 4
    exploration = Exploration(paths=paths, noise=0.1, keep=1.0)
    attended = sum(prompt + t for t in range(tokens))
    iteration = iteration_flops(SHAPE, context=0)
    by_context = iteration_flops(SHAPE, context=1) - iteration
    core = (paths - 1) * (depth - 1) * (tokens * iteration + attended * by_context)
    if head_width is None:
        look = readout_flops(SHAPE, context=0)
        looks = tokens * look + attended * (readout_flops(SHAPE, context=1) - look)
    else:
        looks = tokens * 2 * head_width * (SHAPE.hidden + 4)
        assert policy_flops(SHAPE) != 2 * head_width * (SHAPE.hidden + 4)
    assert exploration_flops(
        SHAPE,
        exploration,
        prompt_tokens=prompt,
        depths=(depth,) * tokens,
        head_width=head_width,
    ) == pytest.approx(core + paths * looks)


def test_one_path_and_one_iteration_cost_nothing_more() -> None:
    for exploration, depth in (
        (Exploration(paths=1, noise=0.5), 8),
        (Exploration(paths=8, noise=0.5), 1),
    ):
        cost = exploration_flops(
            SHAPE, exploration, prompt_tokens=3, depths=(depth,) * 4, head_width=None
        )
        assert cost == 0.0


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"paths": 0}, "paths=0 must be at least 1"),
        ({"noise": -0.1}, r"noise=-0.1 must be 0 or more"),
        ({"noise": float("nan")}, "noise=nan"),
        ({"noise": float("inf")}, "noise=inf"),
        ({"keep": 0.0}, "keep=0.0 must lie over 0"),
        ({"keep": 1.5}, "keep=1.5"),
    ],
)
def test_impossible_values_are_refused(change: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Exploration(**({"paths": 4, "noise": 0.1} | change))
