"""The pool's half of a worker: starts :mod:`rewards.worker`, hands it jobs, reads what it answers.

A worker has handled untrusted text, so its messages are read strictly: what is no description or
no reward is a fault, never an exception of ours.
"""

from __future__ import annotations

import math
import os
import pickle
import select
import signal
import subprocess
import sys
import time
from collections.abc import Mapping
from dataclasses import dataclass
from enum import Enum
from pathlib import Path
from typing import Any

from rewards import frames
from rewards.api import Cost, Reward, Traits, infra_error
from rewards.sandbox.shelter import Shelter
from rewards.worker import Job

PREPARE_WALL_S = 600.0
"""For importing a user's module, which may load a large library on a busy machine."""

END_WALL_S = 5.0
"""For ending when there are no more jobs."""

_BOOT = (
    "import sys; sys.path.append({root!r}); from rewards.worker import main; "
    "from rewards.sandbox.shelter import Shelter; main({pid}, {shelter!r})"
)


class Death(Enum):
    """How a worker ended. SIGKILL comes from outside and says nothing about the sample."""

    OUT_OF_CPU = "by the timer of its CPU budget"
    CRASH = "during a check"
    KILL = "by SIGKILL during a check"
    EARLY_CRASH = "before its check began"
    EARLY_KILL = "by SIGKILL before its check began"


class WorkerDeath(Exception):
    """A worker ended without a result."""

    def __init__(self, code: int, *, in_check: bool) -> None:
        super().__init__(code, in_check)
        self.code = code
        self.in_check = in_check

    def __str__(self) -> str:
        name = signal.Signals(-self.code).name if self.code < 0 else f"exit code {self.code}"
        return f"the worker ended by {name} {'during the check' if self.in_check else 'early'}"

    @property
    def kind(self) -> Death:
        """How it ended, from its exit code."""
        if self.in_check and self.code == -signal.SIGPROF:
            return Death.OUT_OF_CPU
        if self.code == -signal.SIGKILL:
            return Death.KILL if self.in_check else Death.EARLY_KILL
        return Death.CRASH if self.in_check else Death.EARLY_CRASH


class ImportFailure(Exception):
    """A worker could not import the function."""


class NeedsShelter(Exception):
    """The function wants a sandbox, and the worker is in none."""


class WallLimit(Exception):
    """A check passed its wall limit."""


@dataclass(frozen=True, kw_only=True)
class Description:
    """What a reward declares, with the form of its signature, as read in a worker."""

    form: str
    traits: Traits


class WorkerHandle:
    """One worker process, in a shelter or not."""

    def __init__(self, shelter: Shelter | None = None) -> None:
        root = str(Path(__file__).resolve().parents[1])
        self._shelter = shelter
        boot = _BOOT.format(root=root, pid=os.getpid(), shelter=shelter)
        outer = [] if shelter is None else shelter.command()
        environment = dict(os.environ) if shelter is None else shelter.environment()
        self._process = subprocess.Popen(
            [*outer, sys.executable, "-P", "-c", boot],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            bufsize=0,
            start_new_session=True,
            env=environment | {"PYTHONSAFEPATH": "1", "OMP_NUM_THREADS": "1"},
        )
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._in = self._process.stdin.fileno()
        self._out = self._process.stdout.fileno()
        self._pidfd = os.pidfd_open(self._process.pid)
        self.description: Description | None = None

    def ask(self, job: Job) -> tuple[Description, dict[str, Any]]:
        """Have `job` scored; an empty message when it holds no samples.

        `description` is set as soon as the function is known, also when the check then fails.

        Raises:
            WorkerDeath, WallLimit, BrokenFrame: it must be replaced.
            ImportFailure: the function cannot be imported.
            NeedsShelter: only a worker in a shelter may call it.
        """
        try:
            frames.write(self._in, pickle.dumps(job))
        except BrokenPipeError as error:
            raise self._death(in_check=False) from error
        ready = self._message(PREPARE_WALL_S, in_check=False)
        if ready.get("kind") == "refused":
            raise ImportFailure(str(ready.get("error")))
        description = self.description = _description(ready)
        if description.traits.isolation == "sandbox" and self._shelter is None:
            raise NeedsShelter
        if not job.samples:
            return description, {}
        cpu_s = description.traits.cpu_s or job.limits.cpu_s
        wall_s = description.traits.wall_s or 30 + 20 * cpu_s
        return description, self._message(wall_s * len(job.samples), in_check=True)

    def _message(self, wall_s: float, *, in_check: bool) -> dict[str, Any]:
        try:
            deadline = time.monotonic() + wall_s
            body = frames.read(self._out, deadline=deadline, writer=self._pidfd)
        except frames.OutOfTime as error:
            self.kill()
            what = "checking" if in_check else "importing"
            raise WallLimit(f"{what} took more than {wall_s:.0f} s of wall time") from error
        if body is None:
            raise self._death(in_check=in_check)
        return frames.from_json(body)

    def _death(self, *, in_check: bool) -> WorkerDeath:
        return WorkerDeath(self.kill(), in_check=in_check)

    def close(self) -> None:
        """Let the worker end by itself, and what it started before it; kill it if it does not."""
        if self._process.returncode is None and self._process.stdin is not None:
            self._process.stdin.close()
            poller = select.poll()
            poller.register(self._pidfd, select.POLLIN)
            poller.poll(END_WALL_S * 1000)
        self.kill()

    def kill(self) -> int:
        """End the process group; the exit code, negative for the signal that ended the worker.

        The worker is not reaped before the kill, so its group id cannot have been reused.
        """
        if self._process.returncode is not None:
            return self._code()
        os.killpg(self._process.pid, signal.SIGKILL)
        os.close(self._pidfd)
        for pipe in (self._process.stdin, self._process.stdout):
            if pipe is not None:
                pipe.close()
        self._process.wait()
        if self._shelter is not None:
            self._shelter.close()
        return self._code()

    def _code(self) -> int:
        """The exit code; bubblewrap passes on a signal as 128 and its number."""
        code = self._process.returncode
        in_bubblewrap = self._shelter is not None and self._shelter.way == "bubblewrap"
        return 128 - code if in_bubblewrap and code > 128 else code


def _description(message: Mapping[str, Any]) -> Description:
    try:
        values = {name: message[name] for name in Traits.__dataclass_fields__}
        traits = Traits(**{**values, "verdicts": tuple(values["verdicts"])})
        return Description(form=str(message["form"]), traits=traits)
    except (KeyError, TypeError) as error:
        raise frames.BrokenFrame(f"a worker's description lacks {error}") from error


def reward_in(message: Mapping[str, Any], job: Job) -> Reward:
    """The reward in a worker's answer, or an ``infra_error`` when it holds none."""
    try:
        (plain,) = message["rewards"]
        return Reward(
            value=None if plain["value"] is None else _number(plain["value"]),
            verdict=_text(plain["verdict"]),
            metrics={_text(k): _number(v) for k, v in plain["metrics"].items()},
            detail=dict(plain["detail"]),
            cost=Cost(**{name: _number(message[name]) for name in ("cpu_s", "wall_s", "peak_mb")}),
        )
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        fault = f"the worker's answer is no reward: {error}"
        return infra_error(fault, ref=job.ref, sample=job.samples[0])


def _number(value: Any) -> float:
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not math.isfinite(value):
        raise ValueError(f"{value!r} is no number")
    return float(value)


def _text(value: Any) -> str:
    if not isinstance(value, str):
        raise TypeError(f"{value!r} is no text")
    return value
