"""Depth of the positions whose need is known."""

import pytest

from pipeline.depth.compare.depth_report import Need
from pipeline.depth.compare.need import (
    Position,
    iterations_by_steps,
    need,
    positions_with_need,
)
from pipeline.prompts.tasks import generate


def test_a_results_depth_is_that_of_the_position_before_it() -> None:
    pieces = ["<think>", "!", "a", "3", "d", ",", ".", "c", "1", "e", "</think>", "d"]
    found = positions_with_need("lookups", pieces, list(range(1, 13)))
    assert [(s.depth, s.steps, s.relevant, s.needed_steps) for s in found] == [
        (5, 3, True, 3),
        (10, 1, False, 1),
    ]


def test_tokens_may_be_longer_than_a_character() -> None:
    found = positions_with_need("lookups", ["!a", "12d", ","], [7, 8, 9])
    assert [(s.depth, s.steps) for s in found] == [(8, 12)]


def test_every_move_needs_one_step_more_than_the_one_before() -> None:
    pieces = ["<think>", *"0xyx2,0YX1", "</think>", "2"]
    found = positions_with_need("shuffles", pieces, list(range(1, 14)))
    assert [(s.depth, s.steps, s.relevant) for s in found] == [
        (4, 1, True),  # the position of x, the third token, runs to predict the fourth
        (5, 2, True),
        (6, 3, True),
        (10, 1, False),
        (11, 2, False),
    ]


@pytest.mark.parametrize("task", ["shuffles", "turns", "picks"])
def test_every_move_of_a_trace_is_found(task: str) -> None:
    problems = generate(task, size=30, split="train", seed=1, difficulty=(2, 8), distractors=(1, 3))
    for problem in problems:
        text = f"<think>{problem.worked}</think>{problem.answer}"
        found = positions_with_need(task, list(text), [1] * len(text))
        moves = [c for c in problem.worked if c.lower() in "xyzrl"]
        assert [s.relevant for s in found] == [move.islower() for move in moves]
        assert max(s.steps for s in found if s.relevant) == problem.needed_depth


def test_every_written_query_of_the_task_is_found() -> None:
    problems = generate(
        "lookups", size=30, split="train", seed=1, difficulty=(2, 8), distractors=(1, 3)
    )
    for problem in problems:
        text = f"<think>{problem.worked}</think>{problem.answer}"
        found = positions_with_need("lookups", list(text), [1] * len(text))
        assert len(found) == problem.worked.count(",") + 1
        assert sum(s.relevant for s in found) == 2
        assert max(s.steps for s in found if s.relevant) == problem.needed_depth


def test_iterations_are_the_least_depth_that_is_nearly_as_good_as_the_best() -> None:
    steps = [1, 1, 2, 2, 3]
    correct = [[1, 1, 1], [1, 1, 1], [0, 1, 1], [0, 0.9, 1], [0.5, 0.5, 0.5]]
    assert iterations_by_steps(steps, correct) == {1: 1, 2: 2, 3: 2}
    assert iterations_by_steps(steps, correct, share=1.0) == {1: 1, 2: 3, 3: 3}


EACH = {steps: steps for steps in (1, 2, 3, 4)}  # one iteration a step


def test_need_is_counted_in_the_models_iterations() -> None:
    relevant = [Position(depth=2, steps=s, relevant=True) for s in (1, 2, 4)]
    found = need(relevant, {2: 1, 4: 3})
    assert found.waste == pytest.approx(2 / 6)  # one step needs no more than two do
    assert found.shortfall == pytest.approx(1 / 5)
    assert found.iterations_by_steps == {"2": 1, "4": 3}


def test_depth_that_follows_need_correlates() -> None:
    relevant = [Position(depth=d, steps=d, relevant=True) for d in (1, 2, 3, 4)]
    idle = [Position(depth=1, steps=d, relevant=False) for d in (3, 4)]
    found = need([*relevant, *idle], EACH)
    assert found.spearman == pytest.approx(1)
    assert found.spearman_all == pytest.approx(1)
    assert found.waste == found.shortfall == 0
    assert (found.depth_asked, found.depth_idle) == (2.5, 1)


def test_depth_spent_on_idle_results_is_waste() -> None:
    relevant = [
        Position(depth=3, steps=3, relevant=True),
        Position(depth=1, steps=3, relevant=True),
    ]
    found = need([*relevant, Position(depth=4, steps=4, relevant=False)], EACH)
    assert found.waste == pytest.approx(3 / 8)
    assert found.shortfall == pytest.approx(2 / 7)
    assert found.spearman is None  # one need alone has no ranks


def test_without_queries_there_is_nothing_to_tell() -> None:
    assert need([], EACH) == Need()
