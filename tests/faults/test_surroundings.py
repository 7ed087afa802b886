"""A disk that fills up at named instants, and a clock that was set back: the end is the same."""

import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from pipeline.errors import FAILED, OK
from tests.faults.launches import (
    COMMAND,
    INJECT,
    Fault,
    launch,
    marks,
    outcome,
    project,
    surroundings,
)

pytestmark = pytest.mark.faults

NO_MOUNTS = 77
SIZE = "40m"  # of the disk: several times what the run writes
SCRIPT = """
mount -t tmpfs -o size="$1" tmpfs runs || exit 77
shift
"$@" 2>first.txt >first.json; echo $? >first.code
rm runs/faults/.filler
"$@" 2>second.txt >second.json; code=$?
cp -a runs kept
exit $code
"""
"""The run is in a mount of its own, which takes `unshare`."""
FULL: dict[str, Fault] = {
    "a step": Fault(event="open", path=r"/\.step-000002\.parquet", fill=True),
    "a save": Fault(
        event="open", path=r"work/reason/checkpoints/checkpoint-2/optimizer\.pt", fill=True
    ),
    "metrics": Fault(event="open", path=r"work/reason/metrics\.jsonl", fill=True),
    "the last save": Fault(event="os.mkdir", path=r"work/\.reason\.out/model$", fill=True),
    "a manifest": Fault(event="open", path=r"work/\.cold\.out/\.manifest\.json", fill=True),
}


@pytest.mark.parametrize("name", FULL)
def test_a_disk_that_fills_up(name: str, undisturbed: dict[str, Any], tmp_path: Path) -> None:
    folder = project(tmp_path)
    (folder / "runs").mkdir()
    user = [] if os.geteuid() == 0 else ["--user", "--map-root-user"]
    done = subprocess.run(
        ["unshare", *user, "--mount", "sh", "-c", SCRIPT, "-", SIZE, *COMMAND],
        cwd=folder,
        env=surroundings(folder, FULL[name]),
        timeout=600,
    )
    if done.returncode == NO_MOUNTS or not (folder / "first.code").exists():
        pytest.skip("no mounts of its own here")
    first, second = ((folder / f"{which}.txt").read_text() for which in ("first", "second"))
    assert all(mark.exists() for mark in marks(folder, 1)), "the fault did not happen"
    assert int((folder / "first.code").read_text()) == FAILED, first
    assert "No space left on device" in first
    assert "Traceback" not in first + second
    assert done.returncode == OK, second
    assert outcome(folder / "kept" / "faults") == undisturbed


def test_a_clock_that_was_set_back(undisturbed: dict[str, Any], tmp_path: Path) -> None:
    """Two days, between a launch that was killed and the one that goes on."""
    library = tmp_path / "clock.so"
    source = str(INJECT / "clock.c")
    subprocess.run(["cc", "-shared", "-fPIC", "-o", library, source, "-ldl"], check=True)
    back = {"LD_PRELOAD": str(library), "CLOCK_OFFSET": "-172800"}
    days = [
        subprocess.run(
            [sys.executable, "-c", "import time; print(time.time() // 86400)"],
            env=os.environ | more,
            capture_output=True,
            text=True,
            check=True,
        ).stdout
        for more in ({}, back)
    ]
    assert float(days[0]) - float(days[1]) == 2
    folder = project(tmp_path / "project")
    step = r"-> .*journal/reason/step-000003\.parquet"
    code, text = launch(folder, Fault(event="os.rename", path=step, target="driver"))
    assert code == -signal.SIGKILL, text
    code, text = launch(folder, **back)
    assert code == OK, text
    assert "Traceback" not in text
    assert outcome(folder / "runs" / "faults") == undisturbed
