"""How a run ends that is told to stop: its processes may go first, or not at all."""

import os
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress

import psutil

from pipeline.errors import FAILED, STOPPED, Stopped, WrongInput

SIGNAL_S = 1.0  # a signal to the whole process group may end an actor before we hear of it
CLEAN_UP_S = 6.0  # after a stop, for Ray to end its processes; then they are killed
LAST_S = 2.0  # for Ray to notice; then we end without it
PATIENCE = 10  # times as long where nobody asked for a stop, since nobody waits to kill us


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


@contextmanager
def bounded(
    *, hurried: bool, clean_up_s: float = CLEAN_UP_S, last_s: float = LAST_S
) -> Iterator[None]:
    """Surroundings of a clean-up that end: what hangs has its processes killed, and where that does
    not help, this one ends: stopped where a stop was asked for, `hurried`, else as a failure."""
    code, times = (STOPPED, 1) if hurried else (FAILED, PATIENCE)
    limits = clean_up_s * times, last_s * times
    done = threading.Event()
    thread = threading.Thread(target=_force, args=(done, code, *limits), daemon=True)
    thread.start()
    try:
        yield
    finally:
        done.set()


def _force(done: threading.Event, code: int, clean_up_s: float, last_s: float) -> None:
    if done.wait(clean_up_s):
        return
    _say(f"ending the run's processes takes over {clean_up_s:.0f} s: they are killed")
    for process in psutil.Process().children(recursive=True):
        with suppress(psutil.NoSuchProcess):
            process.kill()
    if done.wait(last_s):
        return
    _say(
        "Ray does not end: this process ends without it; what is finished is kept, and the same "
        "command goes on"
    )
    os._exit(code)


def _say(sentence: str) -> None:
    with suppress(OSError):
        print(sentence, file=sys.stderr, flush=True)
