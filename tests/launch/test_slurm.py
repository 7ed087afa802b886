"""The batch file on a real SLURM: requeued in the middle, it ends with a plain run's weights.

Needs a cluster that answers `sinfo`; slurm_here.sh makes one of this host.
"""

import json
import re
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.launch.slow_run import has_step, wait_until, weights, write_project

STEPS, REQUEUED_AT = 12, 4
STEPWELL = (sys.executable, "-m", "pipeline.cli.app")
LAUNCH = (*STEPWELL, "launch", "mine.yaml", "--on", "slurm", "--json")
RUNS = """#!/bin/bash
echo "$@" >> "${0%/*}/calls"
case $(wc -l < "${0%/*}/calls") in
  1|2) trap 'kill $!; exit 4' TERM; sleep 600 & wait ;;
  3) exit 3 ;;
esac
"""
RAY = """#!/bin/bash
echo >> "${0%/*}/$1"
[ $1 = start ] || exec test -e "${0%/*}/ready"
[ $(wc -l < "${0%/*}/start") -gt 1 ] || exit 1
trap 'kill $!' TERM
sleep 600 &
wait
"""


def answer(*words: str) -> str:
    return subprocess.run(words, capture_output=True, text=True, check=True).stdout


def has_slurm() -> bool:
    try:
        return bool(answer("sinfo", "--noheader", "--states=idle").strip())
    except (OSError, subprocess.CalledProcessError):
        return False


SLURM_HERE = pytest.mark.skipif(not has_slurm(), reason="no SLURM answers here")


def restarts(job: str) -> int:
    """How often a job came back; one that waits to is told to start, once its node has cleaned up
    after the last time: a second after, or the batch script fails at once."""
    told = answer("scontrol", "show", "job", job)
    if "JobState=PENDING" in told:
        time.sleep(3)
        subprocess.run(["scontrol", "update", f"JobId={job}", "StartTime=now"], capture_output=True)
    return int(re.findall(r"Restarts=(\d+)", told)[0])


def state() -> str:
    return json.loads(answer(*STEPWELL, "launch", "--status", "--json"))["jobs"][0]["state"]


@pytest.mark.slow
@SLURM_HERE
def test_what_ends_early_comes_back(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A Ray that does not start, warned while it starts, warned later, requeued, and failed, with
    programs in the places of Ray and of the run."""
    monkeypatch.chdir(tmp_path)
    write_project(tmp_path, steps=1)
    programs = tmp_path / "bin"
    programs.mkdir()
    for name, text in (("stepwell", RUNS), ("ray", RAY)):
        (programs / name).write_text(text)
        (programs / name).chmod(0o755)

    def lines(name: str) -> int:
        file = programs / name
        return len(file.read_text().splitlines()) if file.is_file() else 0

    (file,) = [f for f in json.loads(answer(*LAUNCH, "--dry-run"))["files"] if f.endswith("batch")]
    text = re.sub(
        r"export PATH=\S+", f"export PATH={programs}:/usr/bin:/bin", Path(file).read_text()
    )
    Path(file).write_text(text)
    document = json.loads(answer(*LAUNCH))
    assert document["edited"] == [file]
    job = document["job"]["id"]
    wait_until(lambda: restarts(job) == 1 and lines("start") == 2)
    asked = lines("health-check")
    wait_until(lambda: lines("health-check") > asked)
    answer("scancel", "--signal=USR1", "--batch", job)
    wait_until(lambda: restarts(job) == 2)
    assert lines("calls") == 0
    (programs / "ready").touch()
    wait_until(lambda: lines("calls") == 1)
    answer("scancel", "--signal=USR1", "--batch", job)
    wait_until(lambda: restarts(job) == 3 and lines("calls") == 2)
    answer("scontrol", "requeue", job)
    wait_until(lambda: restarts(job) == 5 and lines("calls") == 4)
    wait_until(lambda: state() == "COMPLETED")
    log = (Path(document["folder"]) / f"slurm-{job}.log").read_text()
    assert log.count("exit code 4: requeued") == 2
    assert log.count("exit code 3: requeued") == 2


@pytest.mark.slow
@SLURM_HERE
def test_a_requeued_job_ends_with_the_same_weights(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    write_project(tmp_path, steps=STEPS)
    document = json.loads(answer(*LAUNCH))
    job, run = document["job"]["id"], Path(document["run_dir"])
    wait_until(lambda: has_step(run, REQUEUED_AT))
    answer("scontrol", "requeue", job)
    wait_until(lambda: restarts(job) == 1)
    assert not weights(run)
    wait_until(lambda: state() in ("COMPLETED", "FAILED", "CANCELLED"))
    assert state() == "COMPLETED"
    assert restarts(job) == 1
    log = (Path(document["folder"]) / f"slurm-{job}.log").read_text()
    assert f"step {STEPS}/{STEPS}" in log
    answer(*STEPWELL, "run", "mine.yaml", "--run-dir", "plain")
    assert weights(run) == weights(Path("plain")) != {}
