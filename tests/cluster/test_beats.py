"""A process that is stopped or hangs is noticed; one that is slow, or a driver away, is not."""

import json
import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest

from pipeline.cluster.beats import BEAT_S, IDLE_S, SILENT_S, STOPPED_S, Pulse, beat_file

PROGRAM = """
import sys, time
from pathlib import Path
from pipeline.cluster import beats
beats.BEAT_S, beats.MEASURE_BEATS = 0.05, 1
beats.start_beat(Path(sys.argv[1]), scored=lambda: 1000)
print("beats", flush=True)
time.sleep(600)
"""


class Clock:
    """A clock that the test moves on."""

    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


def look(pulse: Pulse, clock: Clock, seconds: float, *, every: float = 2.0) -> str | None:
    """What the driver hears, looking again and again for so long."""
    end = clock.now + seconds
    while clock.now < end:
        clock.now += every
        if (sentence := pulse.silent(["engine-0", "scorer"])) is not None:
            return sentence
    return None


def sign(logs: Path, *, host: str, pid: int, name: str = "engine-0", work: float = 0.0) -> Path:
    file = beat_file(logs / f"{name}.log")
    file.write_text(json.dumps({"host": host, "pid": pid, "work": f"{work:20.1f}"}))
    return file


def test_a_stopped_process_is_ended_soon(tmp_path: Path) -> None:
    clock = Clock()
    pulse = Pulse(tmp_path, clock=clock)
    log = tmp_path / "engine-0.log"
    process = subprocess.Popen(
        [sys.executable, "-c", PROGRAM, str(log)], stdout=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "beats\n"
    assert pulse.has_started("engine-0")
    before = beat_file(log).stat().st_mtime
    time.sleep(0.5)
    assert beat_file(log).stat().st_mtime > before
    assert json.loads(beat_file(log).read_text())["pid"] == process.pid
    assert 1000 <= float(json.loads(beat_file(log).read_text())["work"]) < 1100
    process.send_signal(signal.SIGSTOP)
    time.sleep(0.2)
    sentence = look(pulse, clock, STOPPED_S + 10)
    assert sentence is not None
    assert sentence.startswith("engine-0 was stopped (SIGSTOP) for 16 s and was ended")
    assert process.wait(10) == -signal.SIGKILL


def test_one_elsewhere_has_longer(tmp_path: Path) -> None:
    clock = Clock()
    pulse = Pulse(tmp_path, clock=clock)
    assert look(pulse, clock, 10 * SILENT_S) is None  # none has begun
    file = sign(tmp_path, host="node-7", pid=os.getpid())
    assert look(pulse, clock, SILENT_S - 10) is None
    os.utime(file, (1, 1))
    assert look(pulse, clock, SILENT_S - 10) is None
    sentence = look(pulse, clock, 20)
    assert sentence is not None
    assert sentence.startswith("engine-0 hangs: it gave no sign of life for 30")


def test_a_driver_that_was_away_forgives(tmp_path: Path) -> None:
    clock = Clock()
    pulse = Pulse(tmp_path, clock=clock)
    sign(tmp_path, host=socket.gethostname(), pid=os.getpid())
    look(pulse, clock, 10)
    for _ in range(5):
        clock.now += 10 * SILENT_S
        assert look(pulse, clock, BEAT_S) is None


def test_what_an_earlier_launch_left_is_no_start(tmp_path: Path) -> None:
    sign(tmp_path, host="node-7", pid=1)
    assert not Pulse(tmp_path).has_started("engine-0")


@pytest.mark.parametrize("text", ["", "[]", "{}"])
def test_half_a_sign_is_that_of_one_elsewhere(text: str, tmp_path: Path) -> None:
    clock = Clock()
    pulse = Pulse(tmp_path, clock=clock)
    beat_file(tmp_path / "engine-0.log").write_text(text)
    assert look(pulse, clock, STOPPED_S + 10) is None


def test_a_process_that_does_not_beat_may_be_stopped_for_a_while(tmp_path: Path) -> None:
    clock = Clock()
    pulse = Pulse(tmp_path, clock=clock)
    child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"])
    process = psutil.Process(child.pid)
    try:
        assert not pulse.is_stopped("raylet", process)
        child.send_signal(signal.SIGSTOP)
        end = time.monotonic() + 10
        while process.status() != psutil.STATUS_STOPPED:
            assert time.monotonic() < end
        assert not pulse.is_stopped("raylet", process)
        clock.now += STOPPED_S + 1
        assert pulse.is_stopped("raylet", process)
        child.send_signal(signal.SIGCONT)
        while process.status() == psutil.STATUS_STOPPED:
            assert time.monotonic() < end
        assert not pulse.is_stopped("raylet", process)
    finally:
        child.kill()
        child.wait()


@pytest.mark.parametrize(
    ("rates", "waits"),
    [
        ((0.0, 0.0), True),
        ((0.01, 0.005), True),  # what threads of Ray's own take
        ((0.0, 0.1), False),
        ((1.0, 0.0), False),
    ],
)
def test_processes_that_wait_for_each_other_are_told(
    rates: tuple[float, float], waits: bool, tmp_path: Path
) -> None:
    """Seconds of CPU a second of the two processes of a run, which beat all the time."""
    clock = Clock()
    pulse = Pulse(tmp_path, clock=clock)
    sentence = None
    while clock.now < 3 * IDLE_S and sentence is None:
        for name, rate in zip(("engine-0", "scorer"), rates, strict=True):
            file = sign(tmp_path, host="node-7", pid=1, name=name, work=rate * clock.now)
            os.utime(file, (clock.now, clock.now))
        clock.now += 5
        sentence = pulse.silent(["engine-0", "scorer"])
    if waits:
        says = "engine-0 and scorer wait for each other: none of them has worked for 30 minutes"
        assert sentence == says
        assert IDLE_S < clock.now < IDLE_S + 60
    else:
        assert sentence is None


def test_work_that_begins_anew_is_work(tmp_path: Path) -> None:
    """A service's count begins at nothing with every stage."""
    clock = Clock()
    pulse = Pulse(tmp_path, clock=clock)
    for work in (4000.0, 0.0):
        for _ in range(int(IDLE_S // 10)):
            file = sign(tmp_path, host="node-7", pid=1, work=work)
            os.utime(file, (clock.now, clock.now))
            clock.now += 9
            assert pulse.silent(["engine-0", "scorer"]) is None
