"""A run that is told to stop while its processes end by themselves, or do not end."""

import subprocess
import sys
import threading
import time

import pytest

from pipeline.cluster.clean_up import clean_up, ending
from pipeline.cluster.ray_session import ComponentFailed
from pipeline.errors import OK, STOPPED, Stopped, WrongInput


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
    ("hanging", "says"),
    [
        ("lambda: subprocess.run(['sleep', '60'])", "they are killed"),
        ("lambda: time.sleep(60)", "ends without it"),
    ],
)
@pytest.mark.parametrize("code", [OK, STOPPED])
def test_a_clean_up_that_hangs_ends_as_the_run_would_have(
    hanging: str, code: int, says: str
) -> None:
    """What follows it is still done: the document of `--json`."""
    program = (
        "import subprocess, sys, time\n"
        "from pipeline.cluster.clean_up import clean_up, leave\n"
        f"clean_up({hanging}, hurried=True, clean_up_s=0.2, last_s=0.5)\n"
        "print('document')\n"
        f"sys.exit(leave({code}))\n"
    )
    began = time.monotonic()
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert done.returncode == code, done.stderr
    assert done.stdout == "document\n"
    assert says in done.stderr
    assert time.monotonic() - began < 30


def test_a_clean_up_raises_what_it_meets() -> None:
    def broken() -> None:
        raise ComponentFailed("no end")

    with pytest.raises(ComponentFailed, match="no end"):
        clean_up(broken, hurried=False)
