"""Prompt sources -> Prompts: our tasks, reasoning-gym, hub data sets and files.

Every source fails on its first wrong row with the file (or data set), the row, the column and the
fix. Data libraries load only when a source needs them.
"""

import hashlib
import json
import random
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from functools import lru_cache
from pathlib import Path
from typing import cast

from pipeline.prompts import tasks
from pipeline.prompts.file_rows import file_rows
from pipeline.prompts.gym_problems import gym_prompts
from pipeline.prompts.json_rows import PlacedRow
from pipeline.prompts.library_rows import hub_rows
from pipeline.prompts.prompt_error import PromptError
from pipeline.prompts.prompt_rows import NO_ROUTES, Routes, prompts_of_rows
from pipeline.prompts.row_files import row_files
from pipeline.recipe.places import hub_id_mistake
from pipeline.recipe.prompt_source import ONLY_FOR, SOURCES, PromptSource
from pipeline.recipe.recipe_errors import did_you_mean
from pipeline.recipe.section import listed
from pipeline.records import Prompt
from rewards.structured import FAULTY_GYM_SCORERS

SPLITS: tuple[tasks.Split, ...] = ("train", "test")


def load_prompts(
    name: str,
    source: PromptSource,
    *,
    seed: int,
    routes: Routes = NO_ROUTES,
) -> list[Prompt]:
    """The prompts of the recipe's entry `name`, in an order that (source, seed) decides.

    `seed` is the recipe's and gives way to the source's own; every row's value of `source_column`
    must be among `routes`.
    Ids are the SHA-1 of the question (16 hex digits), so they survive a changed size or order;
    a repeated question gets `-2`, `-3` after it. Columns hold the rest of the row, as JSON would
    give it back:

    - task: `task`, `worked`, `difficulty`, `needed_depth`
    - gym: `gym` (the task's name) and `entry` (what its scorer takes)
    - hub, file: the row's other columns, under the recipe's names where `columns` maps them;
      with `answer_after`, `worked` is the text before the mark unless the row has a `worked`; of a
      conversation, `messages` is the whole of it

    Raises PromptError naming the entry, the row and the column.
    """
    seed = seed if source.seed is None else source.seed
    try:
        _check_settings(source)
        if source.task is not None:
            rows = _from_tasks(source, seed)
        elif source.gym is not None:
            rows = gym_prompts(source, source.gym, seed)
        else:
            rows = _own_rows(source, routes)
        return _with_ids(_unshown(source, rows))
    except PromptError as error:
        raise PromptError(f"prompts.{name}: {error}") from error


def check_source(name: str, source: PromptSource, *, routes: Routes = NO_ROUTES) -> None:
    """Refuse what no data is needed to refuse, and files and folders whose rows cannot be read.

    It draws no problem and reaches no network.

    Raises PromptError naming the entry, the key and the fix.
    """
    try:
        _check_settings(source)
        if source.file is not None:
            check_file(source, routes=routes)
        if source.hub is not None and Path(source.hub).is_dir():
            for _ in _own_rows(source, routes):
                pass
    except PromptError as error:
        raise PromptError(f"prompts.{name}: {error}") from error


def check_file(source: PromptSource, *, routes: Routes = NO_ROUTES) -> int:
    """Read every row that a source of files will use and return their number.

    Raises PromptError naming the file, the line or row, and the column.
    """
    return sum(1 for _ in _file_rows(source, routes))


def column_mistake(source: PromptSource, column: str) -> str | None:
    """The sentence about the first row of a file or a local folder that has nothing to learn under
    `column`; None where all rows have it, and where rows cannot be read or lie elsewhere."""
    if source.file is None and not (source.hub is not None and Path(source.hub).is_dir()):
        return None
    if source.source_column is not None:  # its routes are none of our business
        source = source.model_copy(update={"source_column": None})
    try:
        for prompt in _own_rows(source, NO_ROUTES):
            values = {"answer": prompt.answer, **prompt.columns}
            known = [name for name, value in values.items() if value is not None]
            if column not in known:
                return (
                    f"{prompt.place}: the row has no {column!r} to learn"
                    f"{did_you_mean(column, known)} (it has {', '.join(known) or 'nothing'})"
                )
    except PromptError:  # the entry's own check says it
        pass
    return None


def _own_rows(source: PromptSource, routes: Routes) -> Iterator[Prompt]:
    """The rows of files or of a data set."""
    if source.file is not None:
        return _file_rows(source, routes)
    return prompts_of_rows(source, _hub_rows(source), routes, origin=source.hub or "")


def _check_settings(source: PromptSource) -> None:
    """Keys that another kind of source would use, unknown names and splits."""
    kind = next(k for k in SOURCES if k in source.model_fields_set)
    if kind == "file" and "split" in source.model_fields_set:
        raise PromptError("a file has no splits; remove split and give each part its own file")
    for key, kinds in ONLY_FOR.items():
        if key in source.model_fields_set and kind not in kinds:
            raise PromptError(f"{key} means nothing for a {kind} source; remove it")
    if kind in ("task", "gym") and source.split not in SPLITS:
        raise PromptError(f"split {source.split!r} is unknown; a {kind} has train and test")
    repository = None if source.hub is None else source.hub.partition(":")[0]
    if repository is not None and (mistake := hub_id_mistake(repository)) is not None:
        raise PromptError(f"hub: {mistake}")
    if source.task is not None:
        _check_tasks(source.task, source)
    if source.gym is not None and source.gym in FAULTY_GYM_SCORERS:
        reason = FAULTY_GYM_SCORERS[source.gym]
        raise PromptError(f"gym task {source.gym} is refused: {reason}; choose another task")


def _check_tasks(names: str | list[str], source: PromptSource) -> None:
    if not names:
        raise PromptError(f"task names no task; known: {', '.join(tasks.TASKS)}")
    for task in listed(names):
        if task not in tasks.TASKS:
            known = ", ".join(tasks.TASKS)
            raise PromptError(f"unknown task {task!r}{did_you_mean(task, tasks.TASKS)} ({known})")
    for task, times in Counter(listed(names)).items():
        if times > 1:
            raise PromptError(f"task {task} is listed {times} times; list each task once")
    if source.difficulty is None:
        raise PromptError(
            "difficulty is missing: say how many reasoning steps a problem has, "
            "such as difficulty: [2, 5]"
        )


def _from_tasks(source: PromptSource, seed: int) -> list[Prompt]:
    """Equal parts of every task (the first ones take the remainder), shuffled when mixed."""
    names = listed(source.task or [])
    share, rest = divmod(source.size or 0, len(names))
    problems: list[tasks.Problem] = []
    for index, task in enumerate(names):
        try:
            problems += tasks.generate(
                task,
                size=share + (index < rest),
                split=cast(tasks.Split, source.split),
                seed=seed,
                difficulty=source.difficulty or (1, 1),
                distractors=source.distractors,
                care=source.care,
            )
        except ValueError as error:
            raise PromptError(str(error)) from error
    if len(names) > 1:
        random.Random(f"mix/{source.split}/{seed}").shuffle(problems)
    return [_from_problem(problem) for problem in problems]


def _from_problem(problem: tasks.Problem) -> Prompt:
    return Prompt(
        id="",
        question=problem.question,
        answer=problem.answer,
        columns={
            "task": problem.task,
            "worked": problem.worked,
            "difficulty": problem.difficulty,
            "needed_depth": problem.needed_depth,
        },
    )


def _file_rows(source: PromptSource, routes: Routes) -> Iterator[Prompt]:
    """The rows of files. A plan, its notes and a run read the same ones: they are kept."""
    stats = [(str(path), path.stat()) for path in row_files(source.file or [])]
    stamps = tuple((name, stat.st_size, stat.st_mtime_ns) for name, stat in stats)
    return iter(
        rows_of_files(source.model_dump_json(exclude_unset=True), json.dumps(dict(routes)), stamps)
    )


@lru_cache(maxsize=8)
def rows_of_files(
    source_json: str, routes_json: str, stamps: tuple[tuple[str, int, int], ...]
) -> tuple[Prompt, ...]:
    """The rows of these states of files, by a source and routes as JSON."""
    files = [Path(name) for name, _, _ in stamps]
    origin = str(files[0]) if len(files) == 1 else f"{files[0]} and {len(files) - 1} more"
    source = PromptSource.model_validate_json(source_json)
    return tuple(prompts_of_rows(source, _rows_of(files), json.loads(routes_json), origin=origin))


def _rows_of(files: Sequence[Path]) -> Iterator[PlacedRow]:
    for file in files:
        count = 0
        for place, row in file_rows(file):
            yield f"{file}, {place}", row
            count += 1
        if count == 0:
            raise PromptError(f"{file} has no rows; give it at least one")


def _hub_rows(source: PromptSource) -> Iterator[PlacedRow]:
    hub = source.hub or ""
    for place, row in hub_rows(source, hub):
        yield f"{hub}, {place}", row


def _unshown(source: PromptSource, prompts: Iterable[Prompt]) -> Iterator[Prompt]:
    """The prompts, none of whose questions is answered by an example before it."""
    places = {example.question.strip(): i for i, example in enumerate(source.examples)}
    for prompt in prompts:
        if (place := places.get(prompt.question.strip())) is not None:
            raise PromptError(
                f"examples[{place}] answers a question of the entry itself: "
                f"{source.examples[place].question!r}; write another example"
            )
        yield prompt


def _with_ids(prompts: Iterable[Prompt]) -> list[Prompt]:
    """The prompts with ids from their questions, and what was said before; repeated ones get a
    counter."""
    counts: Counter[str] = Counter()
    with_ids: list[Prompt] = []
    for prompt in prompts:
        asked = prompt.question
        if prompt.context:
            asked = json.dumps([*prompt.context, asked])
        digest = hashlib.sha1(asked.encode(), usedforsecurity=False).hexdigest()[:16]
        counts[digest] += 1
        suffix = f"-{counts[digest]}" if counts[digest] > 1 else ""
        with_ids.append(replace(prompt, id=digest + suffix))
    return with_ids
