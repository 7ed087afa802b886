"""A run that is told to stop, seen from outside: exit code 4, its state, and the same end later."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from pipeline.errors import OK, STOPPED

RECIPE = """
name: stop
model: {scratch: {hidden: 64, layers: 1, heads: 2, mlp: 128, max_position: 256}}
prompts:
  train: {task: swaps, size: 64, difficulty: [1, 2]}
rewards:
  answer: {use: "builtin:exact_match"}
stages:
  cold: {kind: sft, rows: train.worked, max_tokens: 64, batch_rows: 4, epochs: 8, save_steps: 1000}
  check: {kind: evaluate, models: [cold], prompts: train, max_tokens: 24, samples_per_prompt: 4}
"""
WAIT_S = 240.0
MARKS = (
    "stop on cpu",
    "loading the base model",
    "cold (sft): running",
    "check (evaluate): running",
)


class Launch:
    """A run in a session of its own, as a terminal has it."""

    def __init__(
        self, project: Path, *options: str, ignoring: signal.Signals | None = None
    ) -> None:
        self.folder = project / "runs" / "stop"
        (project / "stop.yaml").write_text(RECIPE)
        self.process = subprocess.Popen(
            [sys.executable, "-P", "-m", "pipeline", "run", "stop.yaml", "--json"],
            cwd=project,
            env=os.environ | {"OMP_NUM_THREADS": "1"},
            stdout=subprocess.PIPE,
            stderr=(project / "stderr").open("w"),
            text=True,
            start_new_session=True,
            preexec_fn=None
            if ignoring is None
            else lambda: signal.signal(ignoring, signal.SIG_IGN),
        )
        self.errors = project / "stderr"

    def until(self, text: str) -> None:
        """Wait until standard error has the text."""
        end = time.monotonic() + WAIT_S
        while text not in self.errors.read_text():
            assert self.process.poll() is None, self.errors.read_text()
            assert time.monotonic() < end, self.errors.read_text()
            time.sleep(0.05)

    def end(self) -> tuple[int, dict[str, object]]:
        """Exit code and document."""
        output, _ = self.process.communicate(timeout=WAIT_S)
        return self.process.returncode, json.loads(output)

    @property
    def state(self) -> dict[str, str]:
        rows = json.loads((self.folder / "state.json").read_text())
        return {row["name"]: row["status"] for row in rows}

    def leaves_nothing(self) -> bool:
        """Whether every process of the session ends."""
        end = time.monotonic() + 20
        while time.monotonic() < end:
            found = subprocess.run(["pgrep", "-s", str(self.process.pid)], capture_output=True)
            if not found.stdout.strip():
                return True
            time.sleep(0.2)
        return False


def stopped_at(project: Path, mark: str, number: signal.Signals, *, group: bool = False) -> Launch:
    """Start, wait for the mark, signal once, and expect a clean stop."""
    launch = Launch(project)
    launch.until(mark)
    (os.killpg if group else os.kill)(launch.process.pid, number)
    launch.until("stopping: ")
    code, document = launch.end()
    text = launch.errors.read_text()
    assert code == STOPPED, text
    assert document["exit_code"] == STOPPED
    assert "the same command goes on" in str(document["error"])
    assert "stopped" in launch.state.values()
    assert "Traceback" not in text
    assert "stopping: " in (launch.folder / "logs" / "run.log").read_text()
    assert launch.leaves_nothing()
    return launch


def test_sigterm_ends_a_training_cleanly(tmp_path: Path) -> None:
    stopped = stopped_at(tmp_path, "cold: step ", signal.SIGTERM)
    assert stopped.state == {"cold": "stopped", "check": "waiting"}


@pytest.mark.slow
def test_a_stopped_run_goes_on_to_the_same_weights(tmp_path: Path) -> None:
    """SIGTERM while the base model loads, Ctrl-C of a terminal in a stage that trains."""
    for name in ("whole", "parts"):
        (tmp_path / name).mkdir()
    assert Launch(tmp_path / "whole").end()[0] == OK
    loading = stopped_at(tmp_path / "parts", "loading the base model", signal.SIGTERM)
    assert loading.state["cold"] == "stopped"
    training = stopped_at(tmp_path / "parts", "cold: step ", signal.SIGINT, group=True)
    assert training.state["cold"] == "stopped"
    assert Launch(tmp_path / "parts").end()[0] == OK
    same = [
        (tmp_path / name / "runs/stop/stages/cold/model/model.safetensors").read_bytes()
        for name in ("whole", "parts")
    ]
    assert same[0] == same[1]


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
@pytest.mark.parametrize(
    "mark",
    ["stop on cpu", "loading the base model", "cold (sft): running", "check (evaluate): running"],
)
def test_every_signal_at_every_time(tmp_path: Path, mark: str, number: signal.Signals) -> None:
    stopped_at(tmp_path, mark, number, group=number == signal.SIGINT)
    assert Launch(tmp_path).end()[0] == OK


@pytest.mark.slow
def test_what_the_parent_ignores_stays_ignored(tmp_path: Path) -> None:
    """As `nohup` has it."""
    launch = Launch(tmp_path, ignoring=signal.SIGHUP)
    launch.until("cold (sft): running")
    os.kill(launch.process.pid, signal.SIGHUP)
    assert launch.end()[0] == OK


@pytest.mark.slow
def test_a_second_signal_ends_at_once(tmp_path: Path) -> None:
    launch = Launch(tmp_path)
    launch.until("cold (sft): running")
    for _ in range(2):
        os.kill(launch.process.pid, signal.SIGINT)
        time.sleep(0.5)
    code, document = launch.end()
    assert code == STOPPED
    assert document["exit_code"] == STOPPED
    assert launch.leaves_nothing()
    assert Launch(tmp_path).end()[0] == OK


def test_a_signal_before_anything_is_there(tmp_path: Path) -> None:
    """While the command itself loads."""
    (tmp_path / "stop.yaml").write_text(RECIPE)
    program = (
        "import os, signal, sys\n"
        "import pipeline.recipe.load as load\n"
        "def slow(*_):\n"
        "    os.kill(os.getpid(), signal.SIGTERM)\n"
        "load.load_recipe = slow\n"
        "from pipeline.cli.app import main\n"
        "sys.exit(main(['run', 'stop.yaml', '--json']))\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], cwd=tmp_path, capture_output=True, text=True
    )
    assert done.returncode == STOPPED, done.stderr
    assert json.loads(done.stdout)["exit_code"] == STOPPED
    assert "Traceback" not in done.stderr
