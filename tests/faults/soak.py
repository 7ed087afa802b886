"""Random kills over whole runs: `python -m tests.faults.soak --kills 60 [--flow F] [--json]`.

A flow runs once undisturbed: a miniature of five kinds of stages, the quickstart, or `depth-tiny`
with one seed, in full or small. Then it runs while random processes of it get SIGKILL at random
instants: driver, ranks, engines, service, verifiers, Ray's own. It is launched again until it is
done, and begun anew in another folder while there are kills left. Every run has to end with the
weights, journals and metrics of the undisturbed one, and every launch with exit code 0, 3 or the
kill's own. Exit code 1 where that does not hold. Half a minute a kill on two cores.
"""

import argparse
import collections
import json
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psutil

from pipeline.errors import FAILED, OK
from tests.faults.launches import (
    COMMAND,
    RECIPE,
    finished,
    outcome,
    project,
    surroundings,
)

MORE = """
  harvest: {kind: reject, policy: reason, prompts: train, rewards: [answer], size: 60,
    samples_per_prompt: 4, keep_per_prompt: 2, max_tokens: 16}
  student: {kind: distill, teacher: reason, rows: harvest, epochs: 2, lr: 1.0e-3, batch_rows: 8,
    student: {scratch: {hidden: 32, layers: 1, heads: 1, mlp: 64, max_position: 256}},
    max_tokens: 200, save_steps: 2}
  check: {kind: evaluate, models: [cold, reason], prompts: train, samples_per_prompt: 4,
    max_tokens: 16}
"""
FLOWS = {
    "miniature": RECIPE.replace("hardware:", MORE.lstrip("\n") + "hardware:").replace(
        'digits: {use: "mine.py:digits"}',
        'digits: {use: "mine.py:digits"}\n  answer: {use: "mine.py:even"}',
    ),
    "quickstart": "name: faults\ndefaults: quickstart\n",
    "depth-tiny": "name: faults\ndefaults: depth-tiny\nstages: {depth: {rl: {seeds: 1}}}\n",
    "depth-small": """
name: faults
defaults: depth-tiny
stages:
  depth:
    rl: {seeds: 1, steps: 15}
    calibrate: {size: 200, rounds: 2}
    pareto: {size: 80, baselines: [labels, right, q_exit, permuted], transfer: [turns]}
""",
}
SHORTEST_S = 1.0  # between a launch or a kill and the next kill
LONGEST_S = {"miniature": 30.0, "quickstart": 60.0, "depth-tiny": 60.0, "depth-small": 45.0}
EXPECTED = (OK, FAILED, -signal.SIGKILL)


@dataclass
class Soak:
    """What happened."""

    kills: collections.Counter[str] = field(default_factory=collections.Counter)
    codes: collections.Counter[int] = field(default_factory=collections.Counter)
    runs: int = 0
    odd: list[str] = field(default_factory=list)

    def document(self) -> dict[str, Any]:
        """For people and programs."""
        return {
            "kills": self.kills.total(),
            "killed": dict(self.kills.most_common()),
            "exit_codes": {str(code): count for code, count in self.codes.most_common()},
            "runs": self.runs,
            "same": not self.odd,
            "odd": self.odd,
        }


def soak(folder: Path, *, flow: str, kills: int, seed: int) -> Soak:
    """Runs of one of `FLOWS` in `folder` until so many processes were killed."""
    rng, report = random.Random(seed), Soak()
    whole = project(folder / "whole", recipe=FLOWS[flow])
    finished(whole)
    expected = outcome(whole / "runs" / "faults")
    place = folder / "killed"
    while report.kills.total() < kills:
        shutil.rmtree(place, ignore_errors=True)
        project(place, recipe=FLOWS[flow])
        while not _disturbed(place, rng, report, longest_s=LONGEST_S[flow], most=kills):
            continue
        report.runs += 1
        if outcome(place / "runs" / "faults") != expected:
            report.odd.append(f"run {report.runs} ends with other weights, journals or metrics")
            shutil.copytree(place, folder / f"odd-{report.runs}", symlinks=True)
    return report


def _disturbed(
    place: Path, rng: random.Random, report: Soak, *, longest_s: float, most: int
) -> bool:
    """One launch whose processes are killed at random; whether the run is done."""
    with (place / "words.txt").open("w+") as words:
        driver = subprocess.Popen(
            COMMAND,
            cwd=place,
            env=surroundings(place),
            stdout=subprocess.DEVNULL,
            stderr=words,
        )
        while driver.poll() is None:
            if report.kills.total() >= most:
                driver.wait()
                break
            try:
                driver.wait(rng.uniform(SHORTEST_S, longest_s))
            except subprocess.TimeoutExpired:
                report.kills[_killed(driver.pid, rng)] += 1
                _say(f"kill {report.kills.total()}: {report.kills}")
        words.seek(0)
        text = words.read()
    report.codes[driver.returncode] += 1
    _say(f"exit code {driver.returncode}: {' | '.join(text.splitlines()[-2:])[-300:]}")
    if driver.returncode not in EXPECTED or "Traceback" in text:
        report.odd.append(f"exit code {driver.returncode}: {text[-3000:]}")
    return driver.returncode == OK


def _killed(driver: int, rng: random.Random) -> str:
    """Kill the driver or one of the processes below it; its name."""
    try:
        parent = psutil.Process(driver)
        process = rng.choice([parent, *parent.children(recursive=True)])
        name = "driver" if process.pid == driver else _name(process)
        process.kill()
    except psutil.NoSuchProcess:
        return "nobody"
    return name


def _name(process: psutil.Process) -> str:
    """What a process is, in a word or two."""
    words = process.cmdline()
    if not words or words[0].startswith("ray::"):
        return (words or [process.name()])[0]
    scripts = [Path(word).name for word in words if word.endswith(".py")]
    return scripts[0] if scripts else process.name()


def _say(line: str) -> None:
    print(f"{time.strftime('%H:%M:%S')} {line}", file=sys.stderr, flush=True)


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n\n")[0])
    parser.add_argument("--flow", choices=FLOWS, default="miniature")
    parser.add_argument("--kills", type=int, default=60)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args(arguments)
    with tempfile.TemporaryDirectory() as folder:
        report = soak(Path(folder), flow=options.flow, kills=options.kills, seed=options.seed)
    document = report.document()
    print(json.dumps(document) if options.json else json.dumps(document, indent=1))
    return OK if document["same"] else 1


if __name__ == "__main__":
    sys.exit(main())
