"""Depth-graded problems with known answers, worked traces and known needed depth.

Every task is a function of :mod:`pipeline.prompts.drafts` or, of groups of moves,
:mod:`pipeline.prompts.group_drafts`, which drafts one problem.
:func:`generate` turns drafts into a data set:

>>> problem = generate("chains", size=1, split="train", seed=0, difficulty=(3, 3))[0]
>>> problem.question, problem.worked, problem.answer
('y=6;n=y+3;h=n+5;v=h+3;v?', 'n=9,h=4,v=7', '7')

A step of a worked trace states its own result, so leaving one out folds it silently into the next.
How many are left out is the document's *care*; see :func:`generate`.
"""

import hashlib
import random
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from pipeline.prompts import drafts, group_drafts
from pipeline.prompts.drafts import Draft, Drafter

Split = Literal["train", "test"]

TEST_BUCKETS = 1
"""Questions whose hash falls into one of these buckets are held out."""

BUCKETS = 8
"""Number of equally likely hash buckets that questions fall into."""

PATIENCE = 200
"""Failed draws per problem already found, after which a task counts as exhausted."""

MIN_PATIENCE = 20_000
"""Failed draws that are always allowed before a task counts as exhausted."""


@dataclass(frozen=True, kw_only=True)
class Problem:
    """One question with its answer and the reasoning that leads to it."""

    task: str
    question: str
    answer: str
    worked: str
    """The reasoning text that goes between ``<think>`` and ``</think>``; may be empty."""
    difficulty: int
    """Number of reasoning steps, written or not."""
    needed_depth: int
    """Number of sequential steps that the answer depends on."""


TASKS: Mapping[str, Drafter] = {
    "swaps": drafts.swaps,
    "sums": drafts.sums,
    "arithmetic": drafts.arithmetic,
    "totals": drafts.totals,
    "additions": drafts.additions,
    "largest": drafts.largest,
    "chains": drafts.chains,
    "scrambles": drafts.scrambles,
    "nesting": drafts.nesting,
    "hops": drafts.hops,
    "lookups": drafts.lookups,
    "shuffles": group_drafts.shuffles,
    "turns": group_drafts.turns,
    "picks": group_drafts.picks,
    "copy": drafts.copy,
    "reverse": drafts.reverse,
    "sort": drafts.sort,
    "echo": drafts.echo,
}


def generate(
    task: str,
    *,
    size: int,
    split: Split,
    seed: int,
    difficulty: tuple[int, int],
    distractors: tuple[int, int] = (0, 0),
    care: tuple[float, float] = (1.0, 1.0),
) -> list[Problem]:
    """Draw ``size`` problems with distinct questions.

    ``difficulty`` and ``distractors`` are inclusive ranges, drawn uniformly for each problem. The
    split of a question is a function of its text, so no question is ever in both. ``care`` is the
    range of a level drawn uniformly for each document; each step is written with that probability.
    The questions do not depend on ``care``.

    Raises:
        ValueError: the task is unknown, a range is wrong, or fewer than ``size`` distinct
            questions exist; the message says how many do.
    """
    if task not in TASKS:
        raise ValueError(f"unknown task {task!r}; known: {', '.join(TASKS)}")
    _check_range("difficulty", difficulty, low=1)
    _check_range("distractors", distractors, low=0)
    _check_range("care", care, low=0, high=1)
    questions = random.Random(f"questions/{task}/{split}/{seed}")
    pens = random.Random(f"care/{task}/{split}/{seed}")
    problems: dict[str, Problem] = {}
    failures = 0
    while len(problems) < size:
        steps = questions.randint(*difficulty)
        draft = TASKS[task](questions, steps, questions.randint(*distractors))
        if draft.question in problems or split_of(draft.question) != split:
            failures += 1
            if failures > max(MIN_PATIENCE, PATIENCE * len(problems)):
                raise ValueError(
                    f"task {task} with difficulty {difficulty} and distractors {distractors} has "
                    f"only {len(problems)} distinct {split} questions, not {size}; "
                    "ask for fewer or widen the ranges"
                )
            continue
        failures = 0
        problems[draft.question] = _problem(task, draft, steps, pens, care)
    return list(problems.values())


def split_of(question: str) -> Split:
    """The split that a question belongs to, from a hash of its text."""
    digest = hashlib.blake2b(question.encode(), digest_size=8).digest()
    return "test" if int.from_bytes(digest, "big") % BUCKETS < TEST_BUCKETS else "train"


def _problem(
    task: str, draft: Draft, difficulty: int, pens: random.Random, care: tuple[float, float]
) -> Problem:
    """The problem with those steps written that its level of care keeps."""
    level = pens.uniform(*care)
    steps = [step for step in draft.steps if pens.random() < level]
    return Problem(
        task=task,
        question=draft.question,
        answer=draft.answer,
        worked=",".join(steps),
        difficulty=difficulty,
        needed_depth=draft.needed_depth,
    )


def _check_range(
    name: str, bounds: tuple[float, float], *, low: float, high: float = float("inf")
) -> None:
    if not low <= bounds[0] <= bounds[1] <= high:
        raise ValueError(f"{name}: {bounds} is not a range low..high within {low}..{high}")
