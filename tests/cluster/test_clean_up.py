"""A run that is told to stop while its processes end by themselves, or do not end."""

import subprocess
import sys
import threading
import time

import pytest

from pipeline.cluster.clean_up import ending
from pipeline.cluster.ray_session import ComponentFailed
from pipeline.errors import STOPPED, Stopped, WrongInput


def test_a_process_that_dies_of_the_signal_is_a_stop() -> None:
    """Its death may be seen before the signal."""
    signal_seen = threading.Event()
    threading.Timer(0.2, signal_seen.set).start()
    error = ending(ComponentFailed("trainer-0 died"), stopping=signal_seen.is_set)
    assert isinstance(error, Stopped)
    assert "the same command goes on" in str(error)


def test_other_deaths_and_wrong_input_stay_what_they_are() -> None:
    death, wrong = ComponentFailed("trainer-0 died"), WrongInput("row 3")
    assert ending(death, stopping=lambda: False) is death
    assert ending(wrong, stopping=lambda: True) is wrong


@pytest.mark.parametrize(
    ("hanging", "code", "says"),
    [
        ("subprocess.run(['sleep', '60'])", 0, "they are killed"),
        ("time.sleep(60)", STOPPED, "ends without it"),
    ],
)
def test_a_clean_up_that_hangs_is_ended(hanging: str, code: int, says: str) -> None:
    program = (
        "import subprocess, time\n"
        "from pipeline.cluster.clean_up import bounded\n"
        "with bounded(hurried=True, clean_up_s=0.2, last_s=0.5):\n"
        f"    {hanging}\n"
    )
    began = time.monotonic()
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert done.returncode == code, done.stderr
    assert says in done.stderr
    assert time.monotonic() - began < 30
