"""Tokens of prompts and completions that the recipe's own tasks tell before anything is sampled."""

import re
from functools import cache
from pathlib import Path
from statistics import mean

from pipeline.plan.model_origin import first_source, stored_config
from pipeline.prompts.tasks import Problem, generate
from pipeline.recipe.model_source import ModelSource
from pipeline.recipe.prompt_source import PromptSource
from pipeline.recipe.schema import Recipe
from pipeline.recipe.stage_work import UNKNOWN, Lengths

MODEL_ROLES = ("init", "policy", "model", "teacher")
DRAWN = 64  # problems whose texts are measured
CHARACTER_WORDS = 256  # of a vocabulary that has a token for a character, at most
_WORD_TOKENS = re.compile(r" (?=\d)|\d|[^\W\d_]+|[^\w\s]|_")
TAG_TOKENS, TURN_TOKENS, END_TOKENS = 3, 8, 1  # a thinking tag, a turn's frame in ChatML, the end


def task_lengths(recipe: Recipe, name: str) -> Lengths:
    """Of a stage, from the tasks that it reads; unknown where it reads none.

    Completions are as long as solutions, with the steps where some stage learns `worked`, or none
    learns anything; a published model that nothing has taught to answer so tells nothing.
    """
    stage = recipe.stages[name]
    entries = {item.name for item in stage.inputs() if item.role != "watch"}
    for other in [*entries & recipe.stages.keys()]:
        harvested = recipe.stages[other]
        if harvested.product == "harvest":
            entries |= {item.name for item in harvested.inputs()}
    sources = [recipe.prompts[entry] for entry in sorted(entries & recipe.prompts.keys())]
    found = first_source(recipe, name)
    tasks = [source for source in sources if source.task is not None]
    if not tasks or len(tasks) < len(sources) or found is None:
        return UNKNOWN
    if stage.uses_engines and not _is_taught(recipe, name, found):
        return UNKNOWN
    by_character = _has_characters(found)
    steps = _writes_steps(recipe)
    try:
        each = [_lengths(source, by_character, steps, recipe.seed) for source in tasks]
    except ValueError:  # no such task, or too few problems of it: said where they are made
        return UNKNOWN
    shown = all(source.examples for source in tasks)
    prompts, completions, longest = zip(*each, strict=True)
    return Lengths(
        prompt=mean(prompts), completion=mean(completions), longest=max(longest), shown=shown
    )


def _lengths(
    source: PromptSource, by_character: bool, steps: bool, seed: int
) -> tuple[float, float, float]:
    """Tokens of a mean prompt, a mean completion and the longest one."""
    problems = _drawn(
        (source.task,) if isinstance(source.task, str) else tuple(source.task or ()),
        source.split,
        source.difficulty or (1, 1),
        source.distractors,
        source.care,
        min(source.size or DRAWN, DRAWN),
        seed if source.seed is None else source.seed,
    )
    count = len if by_character else word_tokens
    frame = END_TOKENS if by_character else TURN_TOKENS
    tag = 1 if by_character else TAG_TOKENS
    shown = sum(count(one.question) + count(one.answer) for one in source.examples)
    turns = frame * (1 + 2 * len(source.examples))
    prompt = mean(count(p.question) for p in problems) + shown + turns
    completions = [
        count(p.answer) + (count(p.worked) if steps else 0) + (2 * tag if steps else 0) + END_TOKENS
        for p in problems
    ]
    return prompt, mean(completions), max(completions)


def word_tokens(text: str) -> int:
    """About the tokens of a text in a vocabulary of words whose digits stand alone, such as
    SmolLM2's: a word, a digit, a sign, and a space before a digit.

    >>> word_tokens("Which is the largest: 32, 95 or 81?")
    17
    """
    return len(_WORD_TOKENS.findall(text))


@cache
def _drawn(
    tasks: tuple[str, ...],
    split: str,
    difficulty: tuple[int, int],
    distractors: tuple[int, int],
    care: tuple[float, float],
    size: int,
    seed: int,
) -> tuple[Problem, ...]:
    """The first problems of each task; none of one that has not so many."""
    problems: list[Problem] = []
    for task in tasks:
        problems += generate(
            task,
            size=size,
            split="test" if split == "test" else "train",
            seed=seed,
            difficulty=difficulty,
            distractors=distractors,
            care=care,
        )
    return tuple(problems)


def _writes_steps(recipe: Recipe) -> bool:
    """Whether models of the recipe write the steps of our tasks."""
    columns = {
        item.column
        for stage in recipe.stages.values()
        for item in stage.inputs()
        if item.role == "rows" and item.column
    }
    return not columns or "worked" in columns


def _is_taught(recipe: Recipe, name: str, source: ModelSource) -> bool:
    """Whether a model that a stage samples from learned rows before, or is not a published one."""
    if source.hub is None and source.gguf is None:
        return True
    models = [item.name for item in recipe.stages[name].inputs() if item.role in MODEL_ROLES]
    for model in models:
        stage = recipe.stages.get(model)
        if stage is None:
            continue
        if any(item.role == "rows" for item in stage.inputs()) or _is_taught(recipe, model, source):
            return True
    return False


def _has_characters(source: ModelSource) -> bool:
    """Whether a token is a character, as far as files say."""
    if source.scratch is not None:
        return True
    config = None if source.path is None else stored_config(Path(source.path))
    return config is not None and config.get("vocab_size", CHARACTER_WORDS + 1) <= CHARACTER_WORDS
