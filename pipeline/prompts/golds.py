"""Whether gold answers earn full marks under their own reward."""

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from pipeline.records import Prompt


def check_golds(
    prompts: Sequence[Prompt],
    score: Callable[[Prompt], float | None],
    *,
    tests: Mapping[str, str] | None = None,
) -> list[dict[str, Any]]:
    """The prompts whose gold answer does not score full marks (1.0) under its own reward.

    `score` gives the reward of a prompt's own answer, or None when nothing could score it. Each
    row has `row` (from 1), `place` (file and line; empty for generated ones), `id`, `question`,
    `answer`, `score` and `problem`.
    """
    tests = tests or {}
    checked = (
        (row, p, *_problem(p, score, tests.get(p.id, ""))) for row, p in enumerate(prompts, start=1)
    )
    return [
        {
            "row": row,
            "place": prompt.place,
            "id": prompt.id,
            "question": prompt.question,
            "answer": prompt.answer,
            "score": value,
            "problem": problem,
        }
        for row, prompt, value, problem in checked
        if problem
    ]


def _problem(
    prompt: Prompt, score: Callable[[Prompt], float | None], tests: str
) -> tuple[float | None, str]:
    """(score, what is wrong or "") of one gold answer, or of its tests."""
    if prompt.answer is None:
        return None, "there is no gold answer"
    value = score(prompt)
    if value is None:
        return None, tests or "the reward could not score the gold answer"
    if not math.isclose(value, 1.0, abs_tol=1e-9):
        return value, f"the gold answer scores {value:g}, not 1"
    return value, tests
