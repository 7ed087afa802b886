"""Depth of the tokens whose need is known."""

from pipeline.stages.depth.need import spent_on_queries
from pipeline.tasks import generate


def test_a_results_depth_is_that_of_the_position_before_it() -> None:
    pieces = ["<think>", "!", "a", "3", "d", ",", ".", "c", "1", "e", "</think>", "d"]
    found = spent_on_queries(pieces, list(range(1, 13)))
    assert [(s.depth, s.digit, s.asked, s.needed) for s in found] == [
        (5, 3, True, 3),
        (10, 1, False, 1),
    ]


def test_tokens_may_be_longer_than_a_character() -> None:
    found = spent_on_queries(["!a", "12d", ","], [7, 8, 9])
    assert [(s.depth, s.digit) for s in found] == [(8, 12)]


def test_every_written_query_of_the_task_is_found() -> None:
    problems = generate(
        "lookups", size=30, split="train", seed=1, difficulty=(2, 8), distractors=(1, 3)
    )
    for problem in problems:
        text = f"<think>{problem.worked}</think>{problem.answer}"
        found = spent_on_queries(list(text), [1] * len(text))
        assert len(found) == problem.worked.count(",") + 1
        assert sum(s.asked for s in found) == 2
        assert max(s.digit for s in found if s.asked) == problem.needed_depth
