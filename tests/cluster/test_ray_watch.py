"""A dead Ray ends the run in a sentence, whatever the main thread does meanwhile."""

import subprocess
import sys
import time

import psutil
import pytest

from pipeline.cluster.ray_watch import RayWatch
from pipeline.errors import FAILED

PROGRAM = """
import subprocess, sys, time
import psutil
from pipeline.cluster.ray_watch import RayWatch
child = subprocess.Popen(["sleep", "600"])
RayWatch([("raylet", psutil.Process(child.pid))], look_s=0.02, grace_s=0.1)
child.kill()
time.sleep(60)  # as in a call of Ray's
"""


@pytest.fixture
def child() -> subprocess.Popen[bytes]:
    return subprocess.Popen(["sleep", "600"])


def until(watch: RayWatch, says: str | None) -> str | None:
    end = time.monotonic() + 10
    while (dead := watch.dead()) != says and time.monotonic() < end:
        time.sleep(0.02)
    return dead


def test_a_process_that_waits_inside_ray_is_ended() -> None:
    done = subprocess.run([sys.executable, "-c", PROGRAM], capture_output=True, text=True)
    assert done.returncode == FAILED, done.stderr
    (line,) = done.stderr.splitlines()
    assert line.startswith("Ray's raylet died, and this process waits inside Ray")
    assert line.endswith("the same command goes on")


def test_a_dead_process_is_named_and_left_to_the_main_thread(
    child: subprocess.Popen[bytes],
) -> None:
    watch = RayWatch([("gcs_server", psutil.Process(child.pid))], look_s=0.02, grace_s=0.1)
    assert watch.dead() is None
    watch.end()
    child.kill()
    assert until(watch, "Ray's gcs_server died") is not None
    time.sleep(0.3)  # longer than its grace
    child.wait()


def test_a_head_may_be_away_for_a_moment() -> None:
    answers = True
    watch = RayWatch(
        [], head="10.0.0.1:6379", look_s=0.02, away_s=0.2, grace_s=60, reach=lambda _: answers
    )
    assert watch.dead() is None
    answers = False
    time.sleep(0.05)
    answers = True
    time.sleep(0.3)
    assert watch.dead() is None
    answers = False
    says = "the Ray cluster at 10.0.0.1:6379 does not answer any more"
    assert until(watch, says) == says
    answers = True
    assert until(watch, None) is None
    watch.end()
