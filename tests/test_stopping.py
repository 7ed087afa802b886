"""A run that is told to stop, seen from outside: exit code 4, its state, and the same end later."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Mapping
from pathlib import Path

import pytest

from pipeline.errors import FAILED, OK, STOPPED, Stopped
from pipeline.run import StageFailed
from pipeline.stages.stop_signal import stop_in

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
EVERY_KIND = """
name: stop
seed: 3
model: {scratch: {hidden: 64, core: 1, heads: 2, mlp: 128, max_position: 256, max_iterations: 4}}
prompts:
  train: {task: sums, size: 120, difficulty: [2, 3]}
  other: {task: sums, size: 24, seed: 8, difficulty: [2, 3]}
  held_out: {task: sums, size: 24, split: test, difficulty: [2, 3]}
rewards:
  digits: {use: "mine.py:digits"}
  answer: {use: "mine.py:even"}
stages:
  cold: {kind: sft, rows: train.worked, epochs: 8, lr: 1.0e-3, batch_rows: 16, max_tokens: 200}
  reason: {kind: grpo, init: cold, prompts: train, rewards: [digits], steps: 8, lr: 1.0e-4,
    prompts_per_step: 4, samples_per_prompt: 4, max_tokens: 24, save_steps: 2}
  harvest: {kind: reject, policy: reason, prompts: train, rewards: [answer], size: 120,
    samples_per_prompt: 16, keep_per_prompt: 2, max_tokens: 24}
  preference: {kind: reward_model, init: cold, pairs: harvest, lr: 1.0e-3, epochs: 4,
    batch_rows: 8, max_tokens: 200}
  student: {kind: distill, teacher: reason, rows: harvest, epochs: 4, lr: 1.0e-3, batch_rows: 8,
    student: {scratch: {hidden: 32, layers: 1, heads: 1, mlp: 64, max_position: 256}},
    max_tokens: 200}
  depth: {kind: depth, init: reason, prompts: train, calibration: other, held_out: held_out,
    rows: train.worked, max_depth: 4, max_tokens: 24, force: true, budgets: [0.5, 1.0],
    random_depth: {lr: 1.0e-3, batch_rows: 16, max_tokens: 200},
    headroom: {size: 12, samples_per_prompt: 2}, warm_start: {size: 20, steps: 20},
    rl: {steps: 3, prompts_per_step: 4, samples_per_prompt: 4},
    calibrate: {size: 10, rounds: 2}, pareto: {size: 10}}
  export: {kind: export, model: depth}
  check: {kind: evaluate, models: [cold, reason], prompts: held_out, samples_per_prompt: 16,
    max_tokens: 24}
hardware: {device: cpu, engine: native}
"""
REWARDS = """
def digits(sample):
    return sum(c.isdigit() for c in sample.completion) / 24


def even(sample):
    return float(sum(map(ord, sample.completion)) % 2 == 0)
"""
Way = tuple[signal.Signals, bool]
"""A signal, and whether the whole process group gets it."""
TERM, INT, HUP = signal.SIGTERM, signal.SIGINT, signal.SIGHUP
STOPS: tuple[tuple[str, Way, Way], ...] = (
    ("loading the base model", (TERM, False), (INT, True)),
    ("cold: step ", (INT, False), (TERM, True)),
    ("reason: step ", (HUP, True), (TERM, False)),
    ("harvest (reject): running", (TERM, True), (HUP, False)),
    ("preference: step ", (INT, True), (HUP, False)),
    ("student: step ", (HUP, False), (TERM, True)),
    ("depth: step ", (TERM, False), (INT, True)),
    ("export (export): running", (INT, False), (TERM, True)),
    ("check (evaluate): running", (HUP, True), (INT, False)),
)
"""Where a run is when a signal comes, and the ways of it in two runs."""
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
        self,
        project: Path,
        *,
        recipe: str = RECIPE,
        ignoring: signal.Signals | None = None,
        surroundings: Mapping[str, str] | None = None,
    ) -> None:
        self.folder = project / "runs" / "stop"
        (project / "stop.yaml").write_text(recipe)
        (project / "mine.py").write_text(REWARDS)
        self.process = subprocess.Popen(
            [sys.executable, "-P", "-m", "pipeline", "run", "stop.yaml", "--json"],
            cwd=project,
            env={**os.environ, "OMP_NUM_THREADS": "1", **(surroundings or {})},
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
            if not living(self.process.pid):
                return True
            time.sleep(0.2)
        return False


def living(session: int) -> list[int]:
    """Processes of a session that have not ended; one that nobody has waited for yet has."""
    rows = subprocess.run(
        ["ps", "-s", str(session), "-o", "pid=,stat="], capture_output=True, text=True
    ).stdout
    states = dict(row.split()[:2] for row in rows.splitlines())
    return [int(pid) for pid, state in states.items() if not state.startswith(("Z", "X"))]


def test_a_process_that_has_ended_is_none_that_lives() -> None:
    process = subprocess.Popen(
        ["bash", "-c", "sleep 0 & exec sleep 60"], start_new_session=True
    )  # the first sleep has nobody who waits for it
    try:
        time.sleep(0.5)
        listed = subprocess.run(["pgrep", "-s", str(process.pid)], capture_output=True, text=True)
        assert len(listed.stdout.split()) == 2
        assert living(process.pid) == [process.pid]
    finally:
        process.kill()
        process.wait()


def stopped_at(
    project: Path,
    mark: str,
    number: signal.Signals,
    *,
    group: bool = False,
    recipe: str = RECIPE,
) -> Launch:
    """Start, wait for the mark, signal once, and expect a clean stop."""
    launch = Launch(project, recipe=recipe)
    launch.until(mark)
    (os.killpg if group else os.kill)(launch.process.pid, number)
    launch.until("stopping after this step")
    code, document = launch.end()
    text = launch.errors.read_text()
    assert code == STOPPED, text
    assert document["exit_code"] == STOPPED
    assert "the same command goes on" in str(document["error"])
    assert "stopped" in launch.state.values()
    assert "Traceback" not in text
    assert "stopping after this step" in (launch.folder / "logs" / "run.log").read_text()
    assert launch.leaves_nothing()
    return launch


@pytest.mark.parametrize(
    "number", [signal.SIGTERM, pytest.param(signal.SIGUSR1, marks=pytest.mark.slow)]
)
def test_a_signal_ends_a_training_cleanly(tmp_path: Path, number: signal.Signals) -> None:
    stopped = stopped_at(tmp_path, "cold: step ", number)
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
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGUSR1])
@pytest.mark.parametrize(
    "mark",
    ["stop on cpu", "loading the base model", "cold (sft): running", "check (evaluate): running"],
)
def test_every_signal_at_every_time(tmp_path: Path, mark: str, number: signal.Signals) -> None:
    stopped_at(tmp_path, mark, number, group=number == signal.SIGINT)
    assert Launch(tmp_path).end()[0] == OK


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    """Weights of a run of every kind of stage that nobody stopped."""
    project = tmp_path_factory.mktemp("whole")
    assert Launch(project, recipe=EVERY_KIND).end()[0] == OK
    return weights(project)


def weights(project: Path) -> dict[str, bytes]:
    """Of every stage that has some."""
    stages = project / "runs" / "stop" / "stages"
    return {
        str(path.relative_to(stages)): path.read_bytes()
        for path in sorted(stages.rglob("*.safetensors"))
    }


@pytest.mark.slow
@pytest.mark.parametrize("turn", [0, 1])
def test_one_run_stopped_in_every_kind_of_stage(
    tmp_path: Path, undisturbed: dict[str, bytes], turn: int
) -> None:
    """Each command goes on where the last was stopped; the end has the same bits."""
    for mark, *ways in STOPS:
        number, group = ways[turn]
        stopped = stopped_at(tmp_path, mark, number, group=group, recipe=EVERY_KIND)
        name = mark.split()[0].rstrip(":")
        if name == "export":  # over in a moment: the stop may come to what follows
            assert stopped.state["check"] in ("stopped", "waiting")
        elif name in stopped.state:
            assert stopped.state[name] == "stopped", f"{mark}: {stopped.state}"
    assert Launch(tmp_path, recipe=EVERY_KIND).end()[0] == OK
    assert weights(tmp_path) == undisturbed


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


def test_a_stop_is_seen_behind_what_c_code_made_of_it() -> None:
    stop = Stopped("stopped at once")
    hidden = SystemError("<cyfunction CoreWorker.wait> returned a result with an exception set")
    hidden.__cause__ = hidden.__context__ = stop
    assert stop_in(stop) is stop
    assert stop_in(hidden) is stop
    failed = StageFailed("stage cold (sft) failed")
    failed.__cause__ = hidden
    assert stop_in(failed) is stop
    assert stop_in(SystemError("another")) is None
    other = ValueError("raised while the stop was handled")
    other.__context__ = stop
    assert stop_in(other) is None


def test_a_signal_before_anything_is_there(tmp_path: Path) -> None:
    """While the command itself loads."""
    (tmp_path / "stop.yaml").write_text(RECIPE)
    program = (
        "import os, signal, sys\n"
        "import pipeline.recipe.load as load\n"
        "def slow(*_, **__):\n"
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


@pytest.mark.slow
def test_a_ray_that_dies_is_named_at_once(tmp_path: Path) -> None:
    """What is asked of it would wait for a minute, and then end the process without a word."""
    launch = Launch(tmp_path)
    launch.until("cold (sft): running")
    head = subprocess.run(
        ["pgrep", "-P", str(launch.process.pid), "gcs_server"], capture_output=True, text=True
    )
    os.kill(int(head.stdout), signal.SIGKILL)
    code, document = launch.end()
    assert code == FAILED
    assert "gcs_server died or was stopped" in str(document["error"])
    assert launch.leaves_nothing()
    assert Launch(tmp_path).end()[0] == OK


@pytest.mark.slow
def test_a_process_that_ray_ends_for_memory_is_named(tmp_path: Path) -> None:
    """Ray's own guard, which here takes a hundredth of the memory for all of it."""
    full = {"RAY_memory_usage_threshold": "0.01", "RAY_memory_monitor_refresh_ms": "100"}
    code, document = Launch(tmp_path, surroundings=full).end()
    assert code == FAILED
    assert "memory was full" in str(document["error"])
    assert "object store" not in str(document["error"]).lower()
