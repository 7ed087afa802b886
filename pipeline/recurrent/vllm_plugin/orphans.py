"""Processes of a server that was killed end too: vLLM's own would wait for it, with its memory."""

import os
import signal
import threading
import time

SERVER = "STEPWELL_SERVER"
"""Environment variable that a server sets for its processes: its process id."""

LOOK_EVERY_S = 1.0

_watching = threading.Event()


def end_with_parent() -> None:
    """In a process of a server: end once its parent has. Calling again changes nothing."""
    if os.environ.get(SERVER) in (None, str(os.getpid())) or _watching.is_set():
        return
    _watching.set()
    threading.Thread(target=_watch, args=(os.getppid(),), daemon=True).start()


def _watch(parent: int) -> None:
    while os.getppid() == parent:
        time.sleep(LOOK_EVERY_S)
    os.kill(os.getpid(), signal.SIGKILL)
