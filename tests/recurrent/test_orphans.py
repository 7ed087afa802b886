"""Processes of a server end with it, however it ended."""

import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psutil
import pytest

from pipeline.recurrent.vllm_plugin import orphans

CHILD = """
import importlib.util, os, time
spec = importlib.util.spec_from_file_location("orphans", {file!r})
orphans = importlib.util.module_from_spec(spec)
spec.loader.exec_module(orphans)
orphans.LOOK_EVERY_S = 0.05
orphans.end_with_parent()
orphans.end_with_parent()
print(os.getpid(), flush=True)
time.sleep(60)
"""
PARENT = "import subprocess, sys, time; subprocess.Popen([sys.executable, '-c', sys.argv[1]]); "


@contextmanager
def family(server: str | None) -> Iterator[tuple[subprocess.Popen[str], psutil.Process]]:
    """A parent and its child, in the surroundings of a server of that process id."""
    env = {key: value for key, value in os.environ.items() if key != orphans.SERVER}
    if server is not None:
        env[orphans.SERVER] = server
    child = CHILD.format(file=str(Path(orphans.__file__)))
    parent = subprocess.Popen(
        [sys.executable, "-c", f"{PARENT}time.sleep(60)", child],
        env=env,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert parent.stdout is not None
    process = psutil.Process(int(parent.stdout.readline()))
    try:
        yield parent, process
    finally:
        parent.kill()
        parent.wait()
        if process.is_running():
            process.kill()


def test_a_servers_processes_end_with_it() -> None:
    with family("1") as (parent, child):
        assert child.is_running()
        parent.kill()
        parent.wait()
        assert psutil.wait_procs([child], timeout=10)[0]


def test_those_of_others_stay() -> None:
    with family(None) as (parent, child):
        parent.kill()
        parent.wait()
        with pytest.raises(psutil.TimeoutExpired):
            child.wait(0.5)
