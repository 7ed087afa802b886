"""Loaded by every Python process of a run under test (PYTHONPATH): one fault at a named instant.

FAULT holds it as JSON: at the first audit event `event`
(https://docs.python.org/3/library/audit_events.html) whose path matches `path`, in whichever
process that is, `target` gets signal `number`: `self`, `driver`, one of Ray's programs, the
`verifier`, or a process that beats in the run's logs. With `fill` the disk of the run is filled
instead. It happens once: `mark` is made before.
"""

import json
import os
import re
import signal
import sys
import time
from pathlib import Path


def install(fault: dict) -> None:
    pattern, mark = re.compile(fault["path"]), Path(fault["mark"])
    event, target = fault["event"], fault["target"]

    def watch(name: str, arguments: tuple) -> None:
        if name != event or not arguments:
            return
        paths = arguments[:2] if name == "os.rename" else arguments[:1]
        text = " -> ".join(str(path) for path in paths if isinstance(path, str | os.PathLike))
        if not text or pattern.search(text) is None:
            return
        try:
            os.close(os.open(mark, os.O_CREAT | os.O_EXCL))
        except OSError:  # it has happened
            return
        if fault["fill"]:
            fill(Path(fault["run"]) / ".filler")
            return
        pid = process(target, Path(fault["run"]))
        mark.write_text(str(pid))
        os.kill(pid, fault["number"])
        if pid == os.getpid() and fault["number"] == signal.SIGKILL:
            time.sleep(60)

    sys.addaudithook(watch)


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


if "FAULT" in os.environ:
    install(json.loads(os.environ["FAULT"]))
