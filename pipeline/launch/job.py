"""A run as schedulers see it: how much, where it lies, and what starts it."""

import math
import re
import shlex
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from pipeline import __version__
from pipeline.errors import WrongInput
from pipeline.launch.bundle import Bundle
from pipeline.plan.placement import Placement

RETRIES = 3  # of a run that failed; each goes on where the one before ended
NOTICE_S = 180  # between a scheduler's word and the end of the job: a step, and its checkpoint
HEAD_ROOM = 1.5  # of the time asked for, over the plan's estimate
LEAST_HOURS = 1.0
UNKNOWN_HOURS = 24.0  # where the plan cannot tell


class LaunchError(WrongInput):
    """The run cannot be launched so; the message says what is missing."""


@dataclass(frozen=True, kw_only=True)
class Job:
    """What a scheduler's files are written from."""

    name: str  # the recipe's
    folder: Path  # of the files, from the current folder where it lies in it
    storage: str  # a folder that every node sees
    bundle: Bundle
    placement: Placement
    hours: float | None  # the plan's estimate
    seed: int  # the recipe's
    seeds: tuple[int, ...] = ()  # of an array; empty: the recipe's own
    address: str = ""  # of a cluster's job server
    command: str = "launch"  # how this was asked for
    retries: int = RETRIES
    notice_s: int = NOTICE_S
    version: str = __version__

    @property
    def run_dir(self) -> str:
        """Where results, logs and the report of the run go."""
        return f"{self.storage}/{self.name}"

    @property
    def place(self) -> str:
        """The folder of the files, absolute."""
        return str(self.folder.resolve())

    @property
    def environment(self) -> str:
        """The Python environment that this command runs in."""
        return sys.prefix

    @property
    def label(self) -> str:
        """The name as Kubernetes and clouds allow it: small letters, digits and `-`, a letter
        first, 40 at most."""
        plain = re.sub(r"[^a-z0-9]+", "-", self.name.lower()).strip("-")
        return (plain if plain[0].isalpha() else f"run-{plain}")[:40].rstrip("-")

    @property
    def limit_hours(self) -> int:
        """The time to ask for, in whole hours."""
        hours = UNKNOWN_HOURS if self.hours is None else self.hours * HEAD_ROOM
        return math.ceil(max(hours, LEAST_HOURS))

    @property
    def estimate(self) -> str:
        """The plan's hours in words."""
        if self.hours is None:
            return "the plan cannot tell how long it takes"
        amount = f"{self.hours * 60:.0f} minutes" if self.hours < 2 else f"{self.hours:.0f} hours"
        return f"the plan's estimate is {amount}"


@dataclass(frozen=True, kw_only=True)
class Command:
    """A scheduler's own command."""

    words: Sequence[str]
    variables: Mapping[str, str] | None = None  # of its environment, as a shell would set them
    meanings: Mapping[str, str] | None = None  # words of a failure, and a sentence in their place

    def __str__(self) -> str:
        settings = [f"{key}={value}" for key, value in (self.variables or {}).items()]
        return " ".join([*settings, shlex.join(self.words)])
