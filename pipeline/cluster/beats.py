"""Signs of life: every process of a run moves a file's time on, and the driver looks.

logs/engine-0.beat      host, process id, work so far; written every `BEAT_S` by a thread of it

A process that computes for an hour beats: its thread needs an instant of the interpreter. One that
is stopped (SIGSTOP), or hangs with the interpreter held, does not. Processes that wait for each
other beat, too, but none of them works any more: work is seconds of CPU, and what the service has
scored. The driver measures by its own clock, and forgives all of it where it was itself away, as
after Ctrl-Z and `fg`.
"""

import itertools
import json
import os
import socket
import threading
import time
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil

BEAT_S = 2.0
SILENT_S = 300.0  # of a process that runs, or is elsewhere: a machine that swaps is slow, not dead
STOPPED_S = 15.0  # of one here that the kernel says is stopped
LOOK_S = 1.0
IDLE_S = 1800.0  # in which no process of a run worked: they wait for each other
IDLE_WORK = 60.0  # of a process in that time: threads of Ray's own take part of it
MEASURE_BEATS = 15  # beats between two looks at the own work, which takes milliseconds
AWAY_S = 10.0  # between two looks: the driver itself was away
OOM_EVENTS = Path("/sys/fs/cgroup/memory.events")


def start_beat(log: Path, *, scored: Callable[[], int] = lambda: 0) -> None:
    """Beat beside a log file from now on, until this process ends. `scored`: what counts as work
    beside the seconds of CPU of this process and those below it."""
    path = beat_file(log)
    path.write_text(_sign(0.0))
    file = path.open("r+")

    def beat() -> None:
        work = 0.0
        for number in itertools.count():
            time.sleep(BEAT_S)
            if number % MEASURE_BEATS == 0:
                work = _cpu_s() + scored()
            with suppress(OSError):  # a share that is away
                file.seek(0)
                file.write(_sign(work))  # as long as before: a full disk has room for it
                file.flush()

    threading.Thread(target=beat, daemon=True).start()


def _sign(work: float) -> str:
    sign = {"host": socket.gethostname(), "pid": os.getpid(), "work": f"{work:20.1f}"}
    return json.dumps(sign)


def _cpu_s() -> float:
    """Seconds of CPU of this process and of all below it that live, or that it has waited for."""
    total = 0.0
    this = psutil.Process()
    for process in (this, *this.children(recursive=True)):
        with suppress(psutil.Error):
            times = process.cpu_times()
            total += times.user + times.system
    return total


def beat_file(log: Path) -> Path:
    """Where the process with this log beats."""
    return log.with_suffix(".beat")


@dataclass
class _Sign:
    """What was last seen of a process, and when."""

    time: float  # of the file
    seen_s: float  # of our clock


class Pulse:
    """The driver's look at the beats of a run's processes."""

    def __init__(self, logs: Path, *, clock: Callable[[], float] = time.monotonic) -> None:
        """What beats from now on counts; files that earlier launches left do not."""
        self._logs, self._clock = logs, clock
        self._looked_s = clock()
        self._signs: dict[str, _Sign] = {}
        self._work: dict[str, float] = {}  # of each process when one last worked
        self._worked_s = clock()
        self._stopped_s: dict[str, float] = {}  # since when processes of Ray's own were seen so
        for file in logs.glob("*.beat"):
            file.unlink(missing_ok=True)

    def has_started(self, name: str) -> bool:
        """Whether a process came so far as to beat."""
        return self.beat_s(name) is not None

    def beat_s(self, name: str) -> float | None:
        """When a process last beat, by the clock of its folder; None where it never did."""
        with suppress(OSError):
            return beat_file(self._logs / f"{name}.log").stat().st_mtime
        return None

    def host(self, name: str) -> str | None:
        """The machine that a process beat on; None where it did not come so far."""
        sign = _read(beat_file(self._logs / f"{name}.log"))
        return None if sign is None else sign["host"]

    def is_stopped(self, name: str, process: psutil.Process) -> bool:
        """Whether a process that does not beat, one of Ray's own, is stopped and stays so."""
        if not _is_stopped(process):
            self._stopped_s.pop(name, None)
            return False
        now = self._clock()
        return now - self._stopped_s.setdefault(name, now) > STOPPED_S

    def silent(self, names: Iterable[str]) -> str | None:
        """A sentence on a process that does not beat any more, which is then killed where it is
        one of this machine, or on all where none of them works; None while all is well."""
        now, names = self._clock(), list(names)
        if now - self._looked_s < LOOK_S:
            return None
        away, self._looked_s = now - self._looked_s > AWAY_S, now
        for name in names:
            file = beat_file(self._logs / f"{name}.log")
            if (changed := self.beat_s(name)) is None:
                continue
            sign = self._signs.get(name)
            if sign is None or sign.time != changed or away:
                self._signs[name] = _Sign(time=changed, seen_s=now)
                continue
            silence = now - sign.seen_s
            process = _local(file)
            stopped = process is not None and _is_stopped(process)
            if silence > (STOPPED_S if stopped else SILENT_S):
                return _ended(name, process, silence=silence, stopped=stopped)
        return self._idle(names, now, away=away)

    def _idle(self, names: Sequence[str], now: float, *, away: bool) -> str | None:
        read = {name: _read(beat_file(self._logs / f"{name}.log")) for name in names}
        work = {name: float(sign["work"]) for name, sign in read.items() if sign is not None}
        new = any(name not in self._work for name in work)
        if away or new or any(abs(work[n] - self._work[n]) > IDLE_WORK for n in work):
            self._work, self._worked_s = self._work | work, now
        if now - self._worked_s <= IDLE_S or not work:
            return None
        who = " and ".join(filter(None, [", ".join([*work][:-1]), [*work][-1]]))
        return f"{who} wait for each other: none of them has worked for {IDLE_S / 60:.0f} minutes"


def _ended(name: str, process: psutil.Process | None, *, silence: float, stopped: bool) -> str:
    if process is not None:
        with suppress(psutil.Error):
            process.kill()
    how = "was stopped (SIGSTOP)" if stopped else "hangs: it gave no sign of life"
    end = " and was ended" if process is not None else ""
    return f"{name} {how} for {silence:.0f} s{end}"


def _local(file: Path) -> psutil.Process | None:
    """The process that beats in a file, where it is one of this machine."""
    sign = _read(file)
    with suppress(psutil.Error):
        if sign is not None and sign["host"] == socket.gethostname():
            return psutil.Process(sign["pid"])
    return None


def _read(file: Path) -> dict[str, Any] | None:
    """A sign of life; None where half of one is there."""
    with suppress(OSError, ValueError, TypeError, KeyError):
        sign = json.loads(file.read_text())
        return {"host": str(sign["host"]), "pid": int(sign["pid"]), "work": float(sign["work"])}
    return None


def _is_stopped(process: psutil.Process) -> bool:
    with suppress(psutil.Error):
        return process.status() == psutil.STATUS_STOPPED
    return False


def oom_kills() -> int:
    """How many processes of this machine's group the kernel has ended for want of memory; 0 where
    it does not say (cgroup v2, memory.events)."""
    with suppress(OSError, ValueError):
        for line in OOM_EVENTS.read_text().splitlines():
            key, _, count = line.partition(" ")
            if key == "oom_kill":
                return int(count)
    return 0
