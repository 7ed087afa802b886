"""One run in a folder: a dead owner, another machine and a share do not hold it for ever."""

import errno
import fcntl
import json
import os
import signal
import subprocess
import sys
import threading
import time
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import pytest

from pipeline.stages.run_lock import (
    LOCK_FILE,
    OWNER_FILE,
    SILENT_S,
    FolderTaken,
    Owner,
    read_owner,
    run_lock,
)

HOLDER = """
import sys, time
from pathlib import Path
from pipeline.stages.run_lock import run_lock
with run_lock(Path(sys.argv[1]), lost=print):
    print("held", flush=True)
    time.sleep(600)
"""


def ignored(_: str) -> None:
    pass


def another_machine(folder: Path, *, silent_s: float) -> Owner:
    """Leave the mark of an owner elsewhere that was last heard of so long ago."""
    owner = replace(Owner.here(), host="node-7", boot="another boot", pid=4711, token="theirs")
    (folder / OWNER_FILE).write_text(json.dumps(asdict(owner)))
    then = time.time() - silent_s
    os.utime(folder / OWNER_FILE, (then, then))
    return owner


@pytest.mark.parametrize("paused", [False, True])
def test_a_living_process_holds_and_a_killed_one_does_not(paused: bool, tmp_path: Path) -> None:
    """Also one that is stopped (SIGSTOP) lives: it may go on."""
    command = [sys.executable, "-c", HOLDER, str(tmp_path)]
    holder = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    assert holder.stdout is not None
    assert holder.stdout.readline() == "held\n"
    if paused:
        holder.send_signal(signal.SIGSTOP)
    sentence = f"another stepwell runs here .process {holder.pid} on "
    with pytest.raises(FolderTaken, match=sentence), run_lock(tmp_path, lost=ignored):
        pass
    holder.kill()
    holder.wait()
    assert read_owner(tmp_path) is not None
    with run_lock(tmp_path, lost=ignored):
        owner = read_owner(tmp_path)
        assert owner is not None
        assert owner.pid == os.getpid()
    assert read_owner(tmp_path) is None


def test_another_machine_holds_while_it_is_heard_of(tmp_path: Path) -> None:
    another_machine(tmp_path, silent_s=SILENT_S / 2)
    with (
        pytest.raises(FolderTaken, match="process 4711 on node-7, heard of 6[0-9] s ago"),
        run_lock(tmp_path, lost=ignored),
    ):
        pass
    another_machine(tmp_path, silent_s=SILENT_S + 1)
    with run_lock(tmp_path, lost=ignored):
        pass


def test_a_lock_that_a_server_keeps_for_a_dead_machine_is_replaced(tmp_path: Path) -> None:
    with (tmp_path / LOCK_FILE).open("w") as theirs:
        fcntl.flock(theirs, fcntl.LOCK_EX)
        another_machine(tmp_path, silent_s=SILENT_S + 1)
        with (
            run_lock(tmp_path, lost=ignored),
            pytest.raises(FolderTaken),
            run_lock(tmp_path, lost=ignored),
        ):
            pass


def test_who_was_silent_and_wakes_is_told(tmp_path: Path) -> None:
    sentences: list[str] = []
    heard = threading.Event()

    def lost(sentence: str) -> None:
        sentences.append(sentence)
        heard.set()

    with run_lock(tmp_path, lost=lost, beat_s=0.02):
        another_machine(tmp_path, silent_s=0)
        assert heard.wait(10)
    assert "process 4711 on node-7 took" in sentences[0]
    assert read_owner(tmp_path) is not None  # theirs stays


def test_beats_move_the_time_on(tmp_path: Path) -> None:
    with run_lock(tmp_path, lost=ignored, beat_s=0.02):
        os.utime(tmp_path / OWNER_FILE, (0, 0))
        end = time.monotonic() + 10
        while (tmp_path / OWNER_FILE).stat().st_mtime == 0:
            assert time.monotonic() < end
            time.sleep(0.02)


def test_without_locks_of_the_kernel_the_process_counts(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def no_locks(*_: Any) -> None:
        raise OSError(errno.ENOLCK, os.strerror(errno.ENOLCK))

    monkeypatch.setattr(fcntl, "flock", no_locks)
    with (
        run_lock(tmp_path, lost=ignored),
        pytest.raises(FolderTaken, match="another stepwell runs here"),
        run_lock(tmp_path, lost=ignored),
    ):
        pass
    gone = replace(Owner.here(), started=1.0)  # a process of before, with our number
    (tmp_path / OWNER_FILE).write_text(json.dumps(asdict(gone)))
    with run_lock(tmp_path, lost=ignored):
        pass


@pytest.mark.parametrize("text", ["", "[1]", "{", '{"pid": 1}'])
def test_a_damaged_record_holds_nobody(text: str, tmp_path: Path) -> None:
    (tmp_path / OWNER_FILE).write_text(text)
    with run_lock(tmp_path, lost=ignored):
        assert read_owner(tmp_path) is not None
