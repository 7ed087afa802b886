"""`logs/run.log`: what a run said, with the time, whatever its terminal showed."""

import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from io import FileIO
from pathlib import Path
from typing import Any

from pipeline.plan.stage_plan import Plan
from pipeline.stages.context import Console, Metrics
from pipeline.stages.run_folder import RunFolderError


class RunLog:
    """A console that writes stages and messages to a file, and passes everything on.

    Metrics have files of their own.
    """

    def __init__(self, file: FileIO, console: Console) -> None:
        """`file` has no buffer: a signal may have something to say in the midst of a message."""
        self._file, self._console = file, console

    @classmethod
    @contextmanager
    def opened(cls, path: Path, console: Console) -> Iterator["RunLog"]:
        """One that appends to `path`. Raises RunFolderError where that cannot be done."""
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            file = FileIO(path, "a")
        except OSError as error:
            raise RunFolderError(
                f"{path}: the run's log cannot be written ({error.strerror}); choose --run-dir"
            ) from error
        with file:
            yield cls(file, console)

    def start(self, plan: Plan, run_dir: Path) -> None:
        """A run begins, or goes on."""
        self.note(f"{plan.recipe.name} on {plan.device}, run folder {run_dir}")
        self._console.start(plan, run_dir)

    def stage(self, name: str, state: str, *, seconds: float = 0.0, note: str = "") -> None:
        """A stage has come to a new state."""
        after = f" after {seconds:.0f} s" if seconds else ""
        self.note(f"{name}: {state}{after}{f', {note}' if note else ''}")
        self._console.stage(name, state, seconds=seconds, note=note)

    def metrics(self, name: str, row: Metrics) -> None:
        """Passed on."""
        self._console.metrics(name, row)

    def log(self, message: str) -> None:
        """A message."""
        self.note(message)
        self._console.log(message)

    def finish(self, results: Sequence[Mapping[str, Any]]) -> None:
        """The run is done."""
        self.note("done")
        self._console.finish(results)

    def note(self, message: str) -> None:
        """Into the file alone."""
        line = f"{time.strftime('%Y-%m-%d %H:%M:%S')} {message}\n"
        self._file.write(line.encode(errors="backslashreplace"))
