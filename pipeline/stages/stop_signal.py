"""Ctrl-C, SIGTERM, SIGHUP and SIGUSR1: the first asks for a clean stop, the second ends at once.

SIGUSR1 is what SLURM sends ahead of a time limit where it is asked to (`--signal=USR1@120`).
"""

import signal
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from types import FrameType
from typing import Any

from pipeline.errors import Stopped

SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGUSR1)
STOPPING = "stopping after this step, Ctrl-C again to end now"


@contextmanager
def stop_signal(*, tell: Callable[[str], None]) -> Iterator[threading.Event]:
    """An event that the first signal sets, and tells; the second one raises Stopped where it
    arrives. Further ones are ignored: the end is on its way. One that the parent process has set
    to be ignored, as `nohup` does SIGHUP, stays so.
    """
    stopping, ending = threading.Event(), threading.Event()

    def stop(_number: int, _frame: FrameType | None) -> None:
        if not stopping.is_set():
            stopping.set()
            tell(STOPPING)
        elif not ending.is_set():
            ending.set()
            raise Stopped("stopped at once; the run goes on from its last checkpoint")

    with handlers(stop):
        yield stopping


def stop_in(error: BaseException) -> Stopped | None:
    """The stop that an error is or hides: Ray's C code, which a signal's exception passes through,
    raises a SystemError in its place."""
    seen: BaseException | None = error
    while seen is not None and not isinstance(seen, Stopped):
        seen = seen.__cause__ or (seen.__context__ if isinstance(seen, SystemError) else None)
    return seen


def stop_if(stopping: Callable[[], bool], *, before: str) -> None:
    """Raise Stopped once a stop was asked for."""
    if stopping():
        raise Stopped(f"stopped before {before}; the same command goes on")


@contextmanager
def handlers(handler: Callable[[int, FrameType | None], Any]) -> Iterator[None]:
    """Handle the signals so for a while, but for those that are ignored. In another thread than the
    main one, which alone gets signals, nothing is changed."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    previous: Mapping[int, Any] = {
        number: signal.signal(number, handler)
        for number in SIGNALS
        if signal.getsignal(number) != signal.SIG_IGN
    }
    try:
        yield
    finally:
        for number, old in previous.items():
            signal.signal(number, old)
