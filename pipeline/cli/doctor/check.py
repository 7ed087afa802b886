"""One finding of doctor, and the small program that finds it in a process of its own."""

import contextlib
import os
import subprocess
import sys
from dataclasses import dataclass
from typing import Literal

from pipeline.cli.set_up import set_up_again

Status = Literal["fine", "warning", "wrong"]
GIB = 2**30
IMPORT_LIMIT_S = 120
STEP = 10  # of niceness


@dataclass(frozen=True, kw_only=True)
class Check:
    """One finding, why it is so and, where something is missing, what to do."""

    name: str
    status: Status
    why: str
    fix: str = ""
    matmul_gflops: float | None = None  # of the check that measures it


def wrong(name: str, sentence: str) -> Check:
    """A mistake as errors write it: what is wrong; what to do."""
    why, mark, fix = sentence.rpartition("; ")
    if not mark:
        why, fix = sentence, "mend that, and run doctor again"
    return Check(name=name, status="wrong", why=why, fix=fix)


def step_back(process: subprocess.Popen[str]) -> None:
    """Leave the cores to others first: the one that takes longest decides when all are done."""
    with contextlib.suppress(ProcessLookupError):
        os.setpriority(os.PRIO_PROCESS, process.pid, STEP)


def tried(name: str, program: str) -> Check:
    """Run a small program; its last line, or the last line of its error."""
    try:
        done = subprocess.run(
            [sys.executable, "-c", program],
            capture_output=True,
            text=True,
            timeout=IMPORT_LIMIT_S,
        )
    except subprocess.TimeoutExpired:
        return Check(
            name=name,
            status="wrong",
            why=f"took over {IMPORT_LIMIT_S} s",
            fix="look at the machine's load, then run doctor again",
        )
    lines = (done.stdout if done.returncode == 0 else done.stderr).strip().splitlines()
    return Check(
        name=name,
        status="fine" if done.returncode == 0 else "wrong",
        why=lines[-1] if lines else f"exit code {done.returncode}",
        fix="" if done.returncode == 0 else set_up_again(),
    )
