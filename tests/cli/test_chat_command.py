"""`stepwell chat`, from outside: a pipe, a document, a terminal."""

import json
import os
import pty
import select
import subprocess
import sys
import time
from pathlib import Path

import pytest

from pipeline.cli.app import main
from pipeline.errors import OK, WRONG

ROOT = Path(__file__).resolve().parents[2]
TINY = str(ROOT / "data/models/tiny")
STUDENT = str(ROOT / "data/models/tiny-student")


def test_a_prompt_as_a_document(capfd: pytest.CaptureFixture[str]) -> None:
    assert main(["chat", TINY, "--prompt", "2;25;24?", "--depth", "3", "--json"]) == OK
    document = json.loads(capfd.readouterr().out)
    (reply,) = document["replies"]
    assert document["asked"] == "depth 3"
    assert (reply["mean_depth"], reply["full_depth"], reply["stop"]) == (3.0, 3, "eos")
    assert reply["answer"].strip() in tuple("12345")


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ([STUDENT, "--effort", "low"], "a dense model (llama) has no depth to choose"),
        ([TINY, "--depth", "9"], "runs 1 to 4 iterations"),
        ([TINY, "--depth", "1", "--budget", "0.5"], "give one of"),
        (["./nothing"], "./nothing does not exist"),
    ],
)
def test_what_cannot_be_talked_to(
    given: list[str], said: str, capfd: pytest.CaptureFixture[str]
) -> None:
    assert main(["chat", *given, "--prompt", "1?", "--json"]) == WRONG
    assert said in json.loads(capfd.readouterr().out)["error"]


def test_a_pipe_has_answers_alone() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "pipeline", "chat", STUDENT],
        input="2;25;24?\n\n/new\n2;25;24?\n",
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.returncode == OK, done.stderr
    first, second = done.stdout.splitlines()
    assert first == second
    assert done.stderr.count("tokens") == 2


@pytest.mark.slow  # 15 s: what a terminal shows
def test_a_terminal() -> None:
    """A question, Ctrl-C at the prompt, Ctrl-D. Keys wait for the prompt, and Ctrl-C is repeated:
    Python's line editor overlooks one that comes between its prompt and its wait for a key."""
    pid, terminal = pty.fork()
    if pid == 0:
        os.execv(sys.executable, [sys.executable, "-m", "pipeline", "chat", TINY])
    shown = _Shown(terminal)
    start = shown.until(b"\r\n> ")
    assert b"the model's own 2 iterations" in start
    os.write(terminal, b"2;25;24?\n")
    shown.until(b"depth 2.00 of 2 on average")
    shown.until(b"> ")
    shown.until(b"begins another conversation", key=b"\x03")
    shown.until(b"> ")
    os.write(terminal, b"\x04")
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == OK


class _Shown:
    """What a terminal shows, read once."""

    def __init__(self, terminal: int) -> None:
        self._terminal, self._rest = terminal, b""

    def until(self, text: bytes, *, key: bytes = b"") -> bytes:
        """What is shown up to that text. `key`: pressed until it comes, every five seconds."""
        end, pressed = time.monotonic() + 60, 0.0
        while text not in self._rest and time.monotonic() < end:
            if key and time.monotonic() > pressed + 5:
                os.write(self._terminal, key)
                pressed = time.monotonic()
            if select.select([self._terminal], [], [], 1)[0]:
                self._rest += os.read(self._terminal, 4096)
        before, found, self._rest = self._rest.partition(text)
        assert found, before
        return before
