"""Ctrl-C and SIGTERM: the first asks for a clean stop, the second ends at once."""

import signal
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from types import FrameType
from typing import Any

from pipeline.errors import Stopped


@contextmanager
def stop_signal() -> Iterator[threading.Event]:
    """An event that the first signal sets; the second one raises Stopped where it arrives."""
    stopping = threading.Event()

    def stop(_number: int, _frame: FrameType | None) -> None:
        if stopping.is_set():
            raise Stopped("stopped at once; the run goes on from its last checkpoint")
        stopping.set()

    previous: Mapping[int, Any] = {
        number: signal.signal(number, stop) for number in (signal.SIGINT, signal.SIGTERM)
    }
    try:
        yield stopping
    finally:
        for number, handler in previous.items():
            signal.signal(number, handler)
