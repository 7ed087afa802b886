"""Loaded by every Python process of a run under test (PYTHONPATH): faults at named instants.

FAULTS holds them as JSON, one after the other: each is for the first audit event `event`
(https://docs.python.org/3/library/audit_events.html) whose path matches `path` after the one before
it has happened, in whichever process that is; the path of `open` is followed by its mode, as in
"file [w]". `target` gets signal `number`: `self`, `driver`, one of Ray's programs, the `verifier`,
or a process that beats in the run's logs. With `fill` the disk of the run is filled instead. Each
happens once: its `mark` is made before. With `still` the process that meets it does nothing more.
"""

import json
import os
import re
import signal
import sys
import time
from pathlib import Path


def install(faults: list[dict]) -> None:
    events = {fault["event"] for fault in faults}
    patterns = {fault["path"]: re.compile(fault["path"]) for fault in faults}
    happened = 0  # how many of them, at least

    def watch(name: str, arguments: tuple) -> None:
        nonlocal happened
        if name not in events:
            return
        number = happened
        while number < len(faults) and os.path.lexists(faults[number]["mark"]):
            number += 1  # it has happened, perhaps elsewhere
        happened = max(happened, number)
        if number == len(faults) or faults[number]["event"] != name:
            return
        fault = faults[number]
        if patterns[fault["path"]].search(described(name, arguments)) is None:
            return
        try:
            os.close(os.open(fault["mark"], os.O_CREAT | os.O_EXCL))
        except OSError:  # another process met it at the same time
            return
        happen(fault)

    sys.addaudithook(watch)


def described(name: str, arguments: tuple) -> str:
    """The paths of an event."""
    paths = arguments[:2] if name == "os.rename" else arguments[:1]
    text = " -> ".join(str(path) for path in paths if isinstance(path, str | os.PathLike))
    return f"{text} [{arguments[1]}]" if name == "open" and text else text


def happen(fault: dict) -> None:
    if fault["fill"]:
        fill(Path(fault["run"]) / ".filler")
        return
    pid = process(fault["target"], Path(fault["run"]))
    Path(fault["mark"]).write_text(str(pid))
    os.kill(pid, fault["number"])
    if fault["still"] or (pid == os.getpid() and fault["number"] == signal.SIGKILL):
        time.sleep(60)


def fill(path: Path) -> None:
    """Write to a file until its disk takes nothing more."""
    with path.open("wb", buffering=0) as file:
        for size in (2**20, 2**12, 1):
            try:
                while file.write(os.urandom(size)) == size:
                    continue
            except OSError:
                continue


def process(target: str, run: Path) -> int:
    """The id of the process that a fault is for."""
    if target == "self":
        return os.getpid()
    driver = json.loads((run / ".owner.json").read_text())["pid"]
    if target == "driver":
        return driver
    if target in ("raylet", "gcs_server"):
        return child(driver, target)
    if target == "verifier":
        service = json.loads((run / "logs" / "rollouts.beat").read_text())["pid"]
        return child(service, "python")
    return json.loads((run / "logs" / f"{target}.beat").read_text())["pid"]


def child(parent: int, name: str) -> int:
    """A process whose parent and name these are."""
    for status in Path("/proc").glob("[0-9]*/status"):
        try:
            lines = dict(line.split(":\t", 1) for line in status.read_text().splitlines())
        except (OSError, ValueError):
            continue
        if int(lines["PPid"]) == parent and lines["Name"].startswith(name[:15]):
            return int(status.parent.name)
    raise LookupError(name)


if "FAULTS" in os.environ:
    install(json.loads(os.environ["FAULTS"]))
