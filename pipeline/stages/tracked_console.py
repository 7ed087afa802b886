"""The console of a run that tells trackers too: metrics and results, not what it says."""

import itertools
import json
import uuid
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, redirect_stdout, suppress
from pathlib import Path
from typing import Any

from pipeline.artifacts import write_atomic
from pipeline.plan.stage_plan import Plan
from pipeline.recipe.schema import Recipe
from pipeline.stages.context import Console, Metrics
from pipeline.stages.trackers import KEPT, TRACKERS, TRACKERS_FOLDER, TrackedRun, Tracker
from pipeline.train.job import METRICS_FILE, whole_rows

ID_FILE = "id"  # in their folder: what the run is called where names are not unique
TOLD_FILE = f"{TRACKERS_FOLDER}/told.json"  # the last step of each stage that they were told
LOG_FILE = f"{TRACKERS_FOLDER}/said.log"


class TrackedConsole:
    """A console that passes everything on, and metrics and results to trackers too. One that fails
    is told of and left out from there on: the run folder has all that it had."""

    def __init__(self, console: Console, recipe: Recipe, run_dir: Path) -> None:
        self._console, self._recipe, self._run_dir = console, recipe, run_dir
        self._unopened = list(dict.fromkeys(recipe.report_to))
        self._trackers: dict[str, Tracker] = {}
        self._told: dict[str, int] = {}
        self._resumed: set[str] = set()  # stages that told something since they began, or went on

    @classmethod
    @contextmanager
    def opened(cls, console: Console, recipe: Recipe, run_dir: Path) -> Iterator["TrackedConsole"]:
        """One whose trackers, those of the recipe, start with the first stage that runs."""
        tracked = cls(console, recipe, run_dir)
        try:
            yield tracked
        finally:
            tracked._tell_all(lambda tracker: tracker.close())

    def start(self, plan: Plan, run_dir: Path) -> None:
        """Passed on."""
        self._console.start(plan, run_dir)

    def stage(self, name: str, state: str, *, seconds: float = 0.0, note: str = "") -> None:
        """A stage has come to a new state."""
        if state == "running":
            self._resumed.discard(name)
            self._open()
        self._console.stage(name, state, seconds=seconds, note=note)

    def metrics(self, name: str, row: Metrics) -> None:
        """Numbers of a step of a stage, after those that a launch wrote and ended before it could
        show them. An evaluation's are parts of its models' answers, and no steps: it has results.
        """
        self._console.metrics(name, row)
        if not self._trackers or self._recipe.stages[name].kind == "evaluate":
            return
        step = int(row["step"])
        for each in [*self._missed(name, before=step), row]:
            self._tell_step(name, each)
        self._told[name] = step
        write_atomic(self._run_dir / TOLD_FILE, json.dumps(self._told))

    def _missed(self, stage: str, *, before: int) -> list[Mapping[str, Any]]:
        if stage in self._resumed:
            return []
        self._resumed.add(stage)
        rows = whole_rows(self._run_dir / "work" / stage / METRICS_FILE)
        return [row for row in rows if self._told.get(stage, 0) < row["step"] < before]

    def _tell_step(self, stage: str, row: Mapping[str, Any]) -> None:
        values = {k: v for k, v in numbers(row).items() if k not in ("step", "steps")}
        self._tell_all(lambda tracker: tracker.metrics(stage, int(row["step"]), values))

    def log(self, message: str) -> None:
        """Passed on."""
        self._console.log(message)

    def finish(self, results: Sequence[Mapping[str, Any]]) -> None:
        """The run is done."""
        self._console.finish(results)
        values = {
            f"{name}/{key}": value
            for name, row in by_name(results).items()
            for key, value in numbers(row).items()
        }
        self._tell_all(lambda tracker: tracker.results(values))

    def _open(self) -> None:
        if not self._unopened:
            return
        folder = self._run_dir / TRACKERS_FOLDER
        folder.mkdir(exist_ok=True)
        with suppress(OSError, ValueError, TypeError):
            self._told = dict(json.loads((self._run_dir / TOLD_FILE).read_text(encoding="utf-8")))
        run = TrackedRun(
            folder=folder, name=self._run_dir.name, id=_id(folder), recipe=self._recipe
        )
        while self._unopened:
            name = self._unopened.pop(0)
            try:
                with self._apart():
                    self._trackers[name] = TRACKERS[name](run)
            except Exception as error:  # not ours, and no reason to end a run
                self._console.log(f"warning: {name} does not start: {_line(error)}; {KEPT}")

    @contextmanager
    def _apart(self) -> Iterator[None]:
        """What a library prints goes into a log: standard output is the run's document's."""
        with (self._run_dir / LOG_FILE).open("a", encoding="utf-8") as log, redirect_stdout(log):
            yield

    def _tell_all(self, what: Callable[[Tracker], None]) -> None:
        for name, tracker in list(self._trackers.items()):
            try:
                with self._apart():
                    what(tracker)
            except Exception as error:  # not ours, and no reason to end a run
                del self._trackers[name]
                self._console.log(
                    f"warning: {name} failed and is told no more: {_line(error)}; {KEPT}"
                )


def numbers(row: Mapping[str, Any]) -> dict[str, float]:
    """The entries of a row that a curve can show; those of a mapping as `pass_at/8`."""
    values: dict[str, float] = {}
    for key, value in row.items():
        if isinstance(value, Mapping):
            values |= {f"{key}/{inner}": number for inner, number in numbers(value).items()}
        elif isinstance(value, int | float) and not isinstance(value, bool):
            values[key] = float(value)
    return values


def by_name(results: Sequence[Mapping[str, Any]]) -> dict[str, Mapping[str, Any]]:
    """Rows by their model; by `PROMPTS/MODEL` where it has several, and these again with a
    number from the second on."""
    models = Counter(row["model"] for row in results)
    rows: dict[str, Mapping[str, Any]] = {}
    for row in results:
        name = row["model"]
        if models[name] > 1:
            name = f"{row['prompts']}/{name}"
        copies = (f"{name}-{number}" for number in itertools.count(2))
        rows[next(n for n in itertools.chain([name], copies) if n not in rows)] = row
    return rows


def _id(folder: Path) -> str:
    file = folder / ID_FILE
    if not file.is_file():
        file.write_text(uuid.uuid4().hex[:8] + "\n", encoding="utf-8")
    return file.read_text(encoding="utf-8").strip()


def _line(error: Exception) -> str:
    return f"{type(error).__name__}: {(str(error).strip().splitlines() or [''])[0][:200]}"
