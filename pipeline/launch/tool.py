"""A scheduler's own program: called, asked and followed."""

import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path

from pipeline.errors import RunFailed
from pipeline.launch.job import Command, LaunchError
from pipeline.launch.scheduler import UNKNOWN, Scheduler, Ticket

ASK_S = 3.0  # between two questions for a job's state
ASK_SELDOM_S = 20.0  # the same while another program shows its log; at that one's end, at once
SILENT_S = 120.0  # for which nobody may know the state of a job that is followed
LAST_LINES = 3  # of what a program said when it failed


def check_tool(scheduler: Scheduler, files: Path) -> None:
    """Raises LaunchError where the scheduler's program is not installed."""
    if shutil.which(scheduler.tool) is None:
        raise LaunchError(
            f"{scheduler.tool} is not installed here; the files are in {files}: submit them where "
            "it is, or install it"
        )


def call(command: Command, variables: Mapping[str, str] | None = None) -> str:
    """What a command prints on standard output.

    Raises RunFailed with its last words, LaunchError where they have a meaning that we know.
    """
    done = subprocess.run(
        list(command.words),
        env=os.environ | dict(command.variables or {}) | dict(variables or {}),
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode:
        for words, meaning in (command.meanings or {}).items():
            if words in done.stderr + done.stdout:
                raise LaunchError(meaning)
        said = [line for line in (done.stderr or done.stdout).splitlines() if line.strip()]
        reason = "; ".join(line.strip() for line in said[-LAST_LINES:])
        raise RunFailed(f"`{command}` failed: {reason or f'exit code {done.returncode}'}")
    return done.stdout


def ask(command: Command) -> str:
    """The same of a question, whose failure is an empty answer: a job may be forgotten.

    Raises LaunchError as `call` does.
    """
    try:
        return call(command)
    except RunFailed:
        return ""


def state_of(scheduler: Scheduler, ticket: Ticket) -> str:
    """The scheduler's word for a job's state. Raises LaunchError where it cannot be asked."""
    return scheduler.state(ticket, ask)


def follow(scheduler: Scheduler, ticket: Ticket, tell: Callable[[str], None]) -> str:
    """Show a job's states and its log until it ends; its last state.

    Raises LaunchError where the scheduler cannot be asked for `SILENT_S`.
    """
    state, log, shown = "", scheduler.log(ticket), 0
    follower: subprocess.Popen[bytes] | None = None
    heard = time.monotonic()
    while True:
        now = _known_state(scheduler, ticket, patient=time.monotonic() < heard + SILENT_S)
        if now is None:
            time.sleep(ASK_S)
            continue
        heard = time.monotonic()
        if now != state:
            tell(f"{ticket.on} job {ticket.id}: {now}")
            state = now
        if isinstance(log, Path):
            shown = _show(log, shown)
        elif follower is None and state not in scheduler.waiting:
            follower = subprocess.Popen(
                list(log.words), env=os.environ | dict(log.variables or {}), stdout=sys.stderr
            )
        if scheduler.is_over(state):
            if follower is not None:
                follower.wait()
            return state
        if follower is None or follower.poll() is not None:
            time.sleep(ASK_S)
        else:
            with suppress(subprocess.TimeoutExpired):
                follower.wait(ASK_SELDOM_S)


def _known_state(scheduler: Scheduler, ticket: Ticket, *, patient: bool) -> str | None:
    """A job's state; None while we are patient with a scheduler that does not tell."""
    try:
        state = state_of(scheduler, ticket)
    except LaunchError:
        if not patient:
            raise
        return None
    return None if state == UNKNOWN and patient else state


def _show(log: Path, shown: int) -> int:
    """Print what a growing file has beyond its first bytes; how many there are now."""
    if not log.is_file():
        return shown
    with log.open("rb") as stream:
        stream.seek(shown)
        text = stream.read()
    print(text.decode(errors="replace"), end="", flush=True)
    return shown + len(text)
