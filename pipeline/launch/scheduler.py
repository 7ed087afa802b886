"""What each scheduler offers: files, and its own commands to submit, ask, follow and stop."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pipeline.launch.job import Command, Job

UNKNOWN = "UNKNOWN"  # the state of a job that its scheduler does not tell of


@dataclass(frozen=True, kw_only=True)
class Ticket:
    """A submitted job, as `launch.json` beside its files remembers it."""

    on: str
    name: str  # the recipe's
    id: str  # the scheduler's
    address: str  # of a cluster's job server; empty elsewhere
    folder: Path  # of the files
    run_dir: str

    def document(self) -> dict[str, Any]:
        return {
            "on": self.on,
            "name": self.name,
            "id": self.id,
            "address": self.address,
            "folder": str(self.folder),
            "run_dir": self.run_dir,
        }


@dataclass(frozen=True, kw_only=True)
class Scheduler:
    """A scheduler by its functions. `ask` runs a command and gives back what it printed."""

    tool: str  # the program that must be installed
    shares_folders: bool  # whether its nodes see the folders of this machine
    seeds: bool  # whether one submission can run several seeds
    most_bytes: int | None  # of recipe and copies; None: no limit
    files: Callable[[Job], Mapping[str, str]]
    submit: Callable[[Job], Sequence[Command]]
    job_id: Callable[[Job, str], str]  # from what `submit` printed
    state: Callable[[Ticket, Callable[[Command], str]], str]
    waiting: frozenset[str]  # states of a job that has no log yet
    success: frozenset[str]
    failure: frozenset[str]
    log: Callable[[Ticket], Command | Path]  # a command that follows it, or a file that grows
    stop: Callable[[Ticket], Command]

    def is_over(self, state: str) -> bool:
        """Whether a job in this state will write no more."""
        return state in self.success | self.failure
