"""How a run ends that is told to stop: its processes may go first, or not at all."""

import os
import sys
import threading
import time
from collections.abc import Callable
from contextlib import suppress

import psutil

from pipeline.errors import Stopped, WrongInput

SIGNAL_S = 1.0  # a signal to the whole process group may end an actor before we hear of it
CLEAN_UP_S = 6.0  # after a stop, for Ray to end its processes; then they are killed
LAST_S = 2.0  # for Ray to notice; then we end without it
PATIENCE = 10  # times as long where nobody asked for a stop, since nobody waits to kill us

_left_behind = threading.Event()  # a clean-up of this process that did not end


def ending(error: Exception, *, stopping: Callable[[], bool]) -> Exception:
    """The error, or Stopped where a stop is asked for: a signal to the whole process group, as
    `timeout` and SLURM send it, ends the run's processes before the driver ends them."""
    if isinstance(error, Stopped | WrongInput):
        return error
    end = time.monotonic() + SIGNAL_S
    while not stopping() and time.monotonic() < end:
        time.sleep(0.05)
    if not stopping():
        return error
    return Stopped("stopped, and the run's processes with it; the same command goes on")


def clean_up(
    action: Callable[[], None],
    *,
    hurried: bool,
    clean_up_s: float = CLEAN_UP_S,
    last_s: float = LAST_S,
) -> None:
    """Do what may hang, in a thread of its own; then the run's processes are killed, and where that
    does not help either it is left behind: the run ends as it would have, and `leave` ends the
    process. `hurried`: a stop was asked for. Raises what the action raises."""
    times = 1 if hurried else PATIENCE
    errors: list[Exception] = []

    def tried() -> None:
        try:
            action()
        except Exception as error:  # raised where it is waited for
            errors.append(error)

    thread = threading.Thread(target=tried, daemon=True)
    thread.start()
    try:
        thread.join(clean_up_s * times)
        if thread.is_alive():
            say(
                f"ending the run's processes takes over {clean_up_s * times:.0f} s: they are killed"
            )
            _kill_children()
            thread.join(last_s * times)
    finally:  # a second signal ends the wait
        if thread.is_alive():
            _left_behind.set()
    if _left_behind.is_set():
        say("Ray does not end: this process ends without it; what is finished is kept")
    for error in errors:
        raise error


def leave_behind() -> None:
    """Nothing that could be called would end: `leave` ends the process."""
    _left_behind.set()


def is_left_behind() -> bool:
    """Whether something of this process does not end, so that no other Ray can be started in it."""
    return _left_behind.is_set()


def leave(code: int) -> int:
    """The exit code; where a clean-up was left behind, this process and its children end here,
    since Python would wait for it."""
    if not _left_behind.is_set():
        return code
    _kill_children()
    for stream in (sys.stdout, sys.stderr):
        with suppress(OSError):
            stream.flush()
    os._exit(code)


def _kill_children() -> None:
    for process in psutil.Process().children(recursive=True):
        with suppress(psutil.NoSuchProcess):
            process.kill()


def say(sentence: str) -> None:
    """A line on standard error, where it can be written."""
    with suppress(OSError):
        print(sentence, file=sys.stderr, flush=True)
