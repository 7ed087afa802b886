"""Problems of reasoning-gym -> Prompts; the library loads only when a source needs it."""

import hashlib
from collections.abc import Iterator, Mapping
from itertools import islice
from typing import Any

from pipeline.prompts import tasks
from pipeline.prompts.prompt_error import PromptError
from pipeline.prompts.row_values import as_text, json_safe, split_at_mark
from pipeline.recipe.prompt_source import PromptSource
from pipeline.recipe.recipe_errors import did_you_mean
from pipeline.records import Prompt

GYM_ROUNDS = 20
"""Draws of a whole data set after which a reasoning-gym task counts as exhausted."""

GYM_DRAW = 64
"""Problems in the smallest draw: one in eight questions is a test question."""


def gym_prompts(source: PromptSource, task: str, seed: int) -> list[Prompt]:
    """Distinct questions of one split; a question's text decides its split, as for our tasks."""
    prompts: dict[str, Prompt] = {}
    size = source.size or 0
    draw = max(size, GYM_DRAW)
    for round_ in range(GYM_ROUNDS):
        before = len(prompts)
        for entry in _draw_gym(task, source.options, size=draw, seed=_gym_seed(task, seed, round_)):
            question = entry["question"]
            if question not in prompts and tasks.split_of(question) == source.split:
                prompts[question] = _from_entry(source, task, question, entry)
                if len(prompts) == size:
                    return list(prompts.values())
        if len(prompts) == before and round_ * draw > 1000:
            break
    raise PromptError(
        f"gym task {task} has only {len(prompts)} distinct {source.split} questions with these "
        f"options, not {size}; ask for fewer or widen the options"
    )


def _gym_seed(task: str, seed: int, round_: int) -> int:
    """Far apart for neighbouring seeds: reasoning-gym seeds its i-th problem with seed + i."""
    digest = hashlib.sha256(f"{task}/{seed}/{round_}".encode()).digest()
    return int.from_bytes(digest[:4], "big") // 2


def _draw_gym(
    task: str, options: Mapping[str, Any], *, size: int, seed: int
) -> Iterator[dict[str, Any]]:
    import reasoning_gym
    from reasoning_gym.factory import DATASETS

    if task not in DATASETS:
        raise PromptError(f"unknown gym task {task!r}{did_you_mean(task, DATASETS)}")
    for option in options:
        settings = set(DATASETS[task][1].__dataclass_fields__) - {"seed", "size"}
        if option not in settings:
            hint = did_you_mean(option, settings)
            raise PromptError(
                f"options.{option}: gym task {task} has no such option{hint} "
                f"({', '.join(sorted(settings))})"
            )
    try:
        yield from islice(reasoning_gym.create_dataset(task, size=size, seed=seed, **options), size)
    except (AssertionError, TypeError, ValueError) as error:  # its configurations assert
        raise PromptError(f"gym task {task} refuses its options: {error}") from error


def _from_entry(source: PromptSource, task: str, question: str, entry: Mapping[str, Any]) -> Prompt:
    where = f"gym task {task}"
    answer = as_text(entry["answer"], where=where, column="answer")
    if source.answer_after is not None:
        answer = split_at_mark(answer, source.answer_after, where=where)[1]
    columns = {"gym": task, "entry": json_safe(entry)}
    return Prompt(id="", question=question, answer=answer, columns=columns)
