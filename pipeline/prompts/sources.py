"""Prompt sources -> Prompts: our tasks, reasoning-gym, hub data sets and JSONL files.

Every source fails on its first wrong row with the file (or data set), the row, the column and the
fix. Data libraries load only when a source needs them.
"""

import hashlib
import json
import math
import random
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from itertools import islice
from pathlib import Path
from types import MappingProxyType
from typing import Any, cast

from pipeline.errors import WrongInput
from pipeline.prompts import tasks
from pipeline.recipe.errors import did_you_mean
from pipeline.recipe.prompt_source import PromptSource
from pipeline.recipe.section import listed
from pipeline.records import Prompt

FAULTY_GYM_SCORERS: Mapping[str, str] = {
    "game_of_life_halting": 'its scorer pays wrong answers ("definitely wrong" gets full marks)',
    "boxnet": "its scorer gives its own answer 0",
    "graph_color": "its scorer gives its own answer 0",
    "propositional_logic": "its scorer gives its own answer 0",
    "rubiks_cube": "its scorer gives its own answer 0",
    "rush_hour": "its scorer gives its own answer 0",
    "arc_agi": "its scorer compares Python tuples, which a JSON row does not keep",
    "rearc": "its scorer compares Python tuples, which a JSON row does not keep",
}
"""Tasks of reasoning-gym 0.1.25 that are refused, with what is wrong with their scorers."""

GYM_ROUNDS = 20
"""Draws of a whole data set after which a reasoning-gym task counts as exhausted."""

GYM_DRAW = 64
"""Problems in the smallest draw: one in eight questions is a test question."""

SPLITS: tuple[tasks.Split, ...] = ("train", "test")

_ONLY_FOR: Mapping[str, tuple[str, ...]] = {
    "difficulty": ("task",),
    "distractors": ("task",),
    "care": ("task",),
    "options": ("gym",),
    "columns": ("hub", "file"),
    "answer_after": ("gym", "hub", "file"),
    "source_column": ("hub", "file"),
}


class PromptError(WrongInput):
    """A prompt source cannot be read as the recipe describes it."""


Routes = Mapping[str, Sequence[str]]
"""By reward: the values of `source_column` that it has a route for."""

NO_ROUTES: Routes = MappingProxyType({})


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
      with `answer_after`, `worked` is the text before the mark unless the row has a `worked`

    Raises PromptError naming the entry, the row and the column.
    """
    check_source(name, source, routes=routes)
    seed = seed if source.seed is None else source.seed
    try:
        if source.task is not None:
            rows = _from_tasks(source, seed)
        elif source.gym is not None:
            rows = _from_gym(source, source.gym, seed)
        elif source.hub is not None:
            entries = _hub_rows(source, source.hub)
            rows = _from_rows(source, entries, routes, origin=source.hub, unit="row")
        else:
            rows = _file_rows(source, routes)
        return _with_ids(rows)
    except PromptError as error:
        raise PromptError(f"prompts.{name}: {error}") from error


def check_source(name: str, source: PromptSource, *, routes: Routes = NO_ROUTES) -> None:
    """Refuse what no data is needed to refuse, and a file whose rows cannot be read.

    Cheap: it draws no problem, reaches no network and imports no data library.

    Raises PromptError naming the entry, the key and the fix.
    """
    try:
        _check_settings(source)
        if source.file is not None:
            check_file(source, routes=routes)
    except PromptError as error:
        raise PromptError(f"prompts.{name}: {error}") from error


def check_file(source: PromptSource, *, routes: Routes = NO_ROUTES) -> int:
    """Read every row that a JSONL source will use and return their number.

    Raises PromptError naming the file, the line and the column.
    """
    return sum(1 for _ in _file_rows(source, routes))


def check_golds(
    prompts: Sequence[Prompt], score: Callable[[Prompt], float | None]
) -> list[dict[str, Any]]:
    """The prompts whose gold answer does not score full marks (1.0) under its own reward.

    `score` gives the reward of a prompt's own answer, or None when nothing could score it. Each
    row has `row` (from 1), `id`, `question`, `answer`, `score` and `problem`.
    """
    checked = ((row, p, *_gold_problem(p, score)) for row, p in enumerate(prompts, start=1))
    return [
        {
            "row": row,
            "id": prompt.id,
            "question": prompt.question,
            "answer": prompt.answer,
            "score": value,
            "problem": problem,
        }
        for row, prompt, value, problem in checked
        if problem
    ]


def _gold_problem(
    prompt: Prompt, score: Callable[[Prompt], float | None]
) -> tuple[float | None, str]:
    """(score, what is wrong or "") of one gold answer."""
    if prompt.answer is None:
        return None, "there is no gold answer"
    value = score(prompt)
    if value is None:
        return None, "the reward could not score the gold answer"
    if not math.isclose(value, 1.0, abs_tol=1e-9):
        return value, f"the gold answer scores {value:g}, not 1"
    return value, ""


def _check_settings(source: PromptSource) -> None:
    """Keys that another kind of source would use, unknown names and splits."""
    kind = next(k for k in ("task", "gym", "hub", "file") if k in source.model_fields_set)
    for key, kinds in _ONLY_FOR.items():
        if key in source.model_fields_set and kind not in kinds:
            raise PromptError(f"{key} means nothing for a {kind} source; remove it")
    if kind in ("task", "gym") and source.split not in SPLITS:
        raise PromptError(f"split {source.split!r} is unknown; a {kind} has train and test")
    if kind == "file" and "split" in source.model_fields_set:
        raise PromptError("a file has no splits; remove split and give each part its own file")
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


def _from_gym(source: PromptSource, task: str, seed: int) -> list[Prompt]:
    """Distinct questions of one split; a question's text decides its split, as for our tasks."""
    found: dict[str, Prompt] = {}
    size = source.size or 0
    draw = max(size, GYM_DRAW)
    for round_ in range(GYM_ROUNDS):
        before = len(found)
        for entry in _draw_gym(task, source.options, size=draw, seed=_gym_seed(task, seed, round_)):
            question = entry["question"].strip()
            if question not in found and tasks.split_of(question) == source.split:
                found[question] = _from_entry(source, task, question, entry)
                if len(found) == size:
                    return list(found.values())
        if len(found) == before and round_ * draw > 1000:
            break
    raise PromptError(
        f"gym task {task} has only {len(found)} distinct {source.split} questions with these "
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
        known = set(DATASETS[task][1].__dataclass_fields__) - {"seed", "size"}
        if option not in known:
            hint = did_you_mean(option, known)
            raise PromptError(
                f"options.{option}: gym task {task} has no such option{hint} "
                f"({', '.join(sorted(known))})"
            )
    try:
        yield from islice(reasoning_gym.create_dataset(task, size=size, seed=seed, **options), size)
    except (AssertionError, TypeError, ValueError) as error:  # its configurations assert
        raise PromptError(f"gym task {task} refuses its options: {error}") from error


def _from_entry(source: PromptSource, task: str, question: str, entry: Mapping[str, Any]) -> Prompt:
    where = f"gym task {task}"
    answer = _text(entry["answer"], where=where, column="answer")
    if source.answer_after is not None:
        answer = _cut(answer, source.answer_after, where=where)[1]
    columns = {"gym": task, "entry": _json_safe(entry)}
    return Prompt(id="", question=question, answer=answer, columns=columns)


def _hub_rows(source: PromptSource, hub: str) -> Iterator[tuple[int, dict[str, Any]]]:
    """(row from 1, row) of a data set; `hub` is an id or a folder, with `:CONFIG` after it."""
    import datasets

    repository, _, configuration = hub.partition(":")
    try:
        loaded = datasets.load_dataset(repository, configuration or None, split=source.split)
    except ConnectionError as error:
        raise PromptError(
            f"data set {repository} cannot be fetched: {error}; connect to the network, fill the "
            "Hugging Face cache beforehand, or save it as JSON lines and use file:"
        ) from error
    except (OSError, ValueError) as error:  # no such data set, configuration or split
        raise PromptError(
            f"data set {repository} cannot be read: {error} "
            "(a configuration is written hub: ID:CONFIG)"
        ) from error
    return enumerate(cast(Iterable[dict[str, Any]], loaded), start=1)


def _file_rows(source: PromptSource, routes: Routes) -> Iterator[Prompt]:
    path = Path(source.file or "")
    if not path.is_file():
        siblings = [p.name for p in path.parent.glob("*.jsonl")] if path.parent.is_dir() else []
        hint = did_you_mean(path.name, siblings)
        raise PromptError(f"file {path} does not exist{hint}; correct its path")
    return _from_rows(source, _json_rows(path), routes, origin=str(path), unit="line")


def _json_rows(path: Path) -> Iterator[tuple[int, dict[str, Any]]]:
    """(line from 1, row) of a JSONL file; blank lines are skipped."""
    with path.open("rb") as stream:
        for number, line in enumerate(stream, start=1):
            if not line.strip():
                continue
            try:
                row = json.loads(line.decode("utf-8-sig" if number == 1 else "utf-8"))
            except json.JSONDecodeError as error:
                raise PromptError(
                    f"{path}, line {number}, column {error.colno}: not JSON ({error.msg}); "
                    "write one JSON object per line"
                ) from error
            except UnicodeDecodeError as error:
                raise PromptError(
                    f"{path}, line {number}: byte {error.start + 1} is not UTF-8; save it as UTF-8"
                ) from error
            if not isinstance(row, dict):
                raise PromptError(
                    f"{path}, line {number}: a {type(row).__name__} where a JSON object such as "
                    '{"question": "...", "answer": "..."} is expected'
                )
            yield number, row


def _from_rows(
    source: PromptSource,
    rows: Iterable[tuple[int, dict[str, Any]]],
    routes: Routes,
    *,
    origin: str,
    unit: str,
) -> Iterator[Prompt]:
    """Rows of a hub data set or a file. Each has `question`; all or none have `answer`."""
    theirs = source.columns.get("answer", "answer")
    promised = "answer" in source.columns or source.answer_after is not None
    count, has_answer = 0, promised
    for number, row in rows:
        if count == source.size:
            return
        where = f"{origin}, {unit} {number}"
        if count == 0:
            has_answer = promised or theirs in row
        if theirs in row and not has_answer:
            raise PromptError(
                f"{where}: the row has {theirs!r} and the first row has none; "
                "give every row an answer, or none"
            )
        yield _from_row(source, row, routes, where=where, has_answer=has_answer)
        count += 1
    if count == 0:
        raise PromptError(f"{origin} has no rows; give it at least one")
    if source.size is not None and count < source.size:
        raise PromptError(
            f"size asks for {source.size} rows and {origin} has {count}; lower size or leave it out"
        )


def _from_row(
    source: PromptSource, row: Mapping[str, Any], routes: Routes, *, where: str, has_answer: bool
) -> Prompt:
    names = {"question": "question", **({"answer": "answer"} if has_answer else {})}
    names |= source.columns
    for ours, theirs in names.items():
        if theirs not in row:
            raise PromptError(_missing(ours, theirs, row, where=where))
    values = {ours: row[theirs] for ours, theirs in names.items()}
    question = _text(values.pop("question"), where=where, column=names["question"])
    answer, worked = None, {}
    if has_answer:
        answer = _text(values.pop("answer"), where=where, column=names["answer"])
        if source.answer_after is not None:
            before, answer = _cut(answer, source.answer_after, where=where)
            worked = {"worked": before}
    others = {theirs: row[theirs] for theirs in row if theirs not in names.values()}
    columns = cast(dict[str, Any], _json_safe({**worked, **others, **values}))
    if source.source_column is not None:
        _check_route(source, columns, routes, where=where)
    return Prompt(id="", question=question, answer=answer, columns=columns)


def _check_route(
    source: PromptSource, columns: Mapping[str, Any], routes: Routes, *, where: str
) -> None:
    """Every reward that a stage uses on these rows must know the row's source."""
    key = source.source_key
    if key not in columns:
        raise PromptError(
            f"{where}: column {key!r} (source_column) is missing{did_you_mean(key, columns)}; "
            f"the row has {', '.join(columns) or 'none'}; correct the key, or complete the row"
        )
    value = str(columns[key])
    for reward, known in routes.items():
        if value not in known:
            raise PromptError(
                f"{where}: {key} is {value!r}, and rewards.{reward}.by_source has no route for it"
                f"{did_you_mean(value, known)} (it has {', '.join(known)}); add one, or correct "
                "the row"
            )


def _missing(ours: str, theirs: str, row: Mapping[str, Any], *, where: str) -> str:
    """The sentence about a column that a row lacks."""
    fix = f"map it with columns: {{{ours}: NAME}}" if ours == theirs else "correct columns"
    return (
        f"{where}: column {theirs!r} is missing{did_you_mean(theirs, row)}; "
        f"the row has {', '.join(row) or 'none'}; {fix}, or complete the row"
    )


def _text(value: Any, *, where: str, column: str) -> str:
    """A question or answer as text; numbers are written out."""
    if isinstance(value, int | float) and not isinstance(value, bool):
        return str(value)
    if not isinstance(value, str):
        raise PromptError(
            f"{where}: column {column!r} holds a {type(value).__name__}, not text or a number"
        )
    if not value.strip():
        raise PromptError(f"{where}: column {column!r} is empty; fill it or remove the row")
    return value.strip()


def _cut(answer: str, mark: str, *, where: str) -> tuple[str, str]:
    """(text before, text after) the last `mark`."""
    before, found, after = answer.rpartition(mark)
    if not found or not after.strip():
        raise PromptError(
            f"{where}: nothing follows {mark!r} (answer_after) in the answer {answer[-60:]!r}; "
            "correct the row or answer_after"
        )
    return before.strip(), after.strip()


def _json_safe(value: Any) -> Any:
    """The value as it comes back from JSON; what JSON cannot hold becomes text."""
    return json.loads(json.dumps(value, default=str))


def _with_ids(prompts: Iterable[Prompt]) -> list[Prompt]:
    """The prompts with ids from their questions; repeated questions get a counter."""
    seen: Counter[str] = Counter()
    numbered: list[Prompt] = []
    for prompt in prompts:
        digest = hashlib.sha1(prompt.question.encode(), usedforsecurity=False).hexdigest()[:16]
        seen[digest] += 1
        suffix = f"-{seen[digest]}" if seen[digest] > 1 else ""
        numbered.append(replace(prompt, id=digest + suffix))
    return numbered
