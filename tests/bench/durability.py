"""What never losing a run costs: `python -m tests.bench.durability [--json] [--rollouts N]`.

A GRPO stage runs for a few steps, is killed with SIGKILL and launched again:
`resume_s` is from that process's start to the first step that the run did not have before. What
keeps it is then done once more to its own files, apart from all else, and is stated as a share of
a step's seconds: `journal_s` a step's journal with its checksum and the disk's word, `seal_s` the
same of a checkpoint, `publish_s` and `verify_s` the stage's manifest made and checked.

`open_s` is what a resume asks of a journal of a million rollouts, in steps of 256: all checksums,
the counts that a curriculum draws by, and the last step's rollouts. Its files are in the memory of
the system, as right after writing. Three minutes on two cores.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import shutil
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from pipeline.artifacts import fresh_folder, open_artifact, publish
from pipeline.generate.curriculum import Counts
from pipeline.generate.groups import Group
from pipeline.generate.journal import Journal, StepRollouts
from pipeline.records import Rollout, Scored
from pipeline.train.checkpoints import in_order, seal

STAGE = "reason"
OVERRIDES = (f"stages.{STAGE}.save_steps=2",)
BEFORE, AFTER = 5, 3  # steps until the run is killed, and from its resume on
GROUPS, SAMPLES, TOKENS = 32, 8, 128  # of a step of the large journal
LIMIT_S = 400.0
REPEATS = 5


def measure(rollouts: int, *, recipe: str) -> dict[str, float]:
    """All figures."""
    with tempfile.TemporaryDirectory() as folder:
        run = Path(folder) / "run"
        first = _launched(run, recipe, until=BEFORE)
        resume_s = _launched(run, recipe, until=first + 1, linger=AFTER)
        return {
            "resume_s": round(resume_s, 1),
            **_shares(run, Path(folder) / "again"),
            **_opening(rollouts, Path(folder) / "large"),
        }


def _launched(run: Path, recipe: str, *, until: float, linger: int = 0) -> float:
    """Launch the run and kill it `linger` steps after the row of step `until` is there: the last
    step without `linger`, else the seconds until that row."""
    began = time.monotonic()
    command = [sys.executable, "-P", "-m", "pipeline", "run", recipe, *OVERRIDES]
    process = subprocess.Popen(
        [*command, "--run-dir", str(run), "--to", STAGE, "--json"],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        _await(run, until, began)
        seconds = time.monotonic() - began
        if linger:
            _await(run, until + linger, began)
    finally:
        process.send_signal(signal.SIGKILL)
        process.wait()
    return seconds if linger else _last_step(run)


def _await(run: Path, step: float, began: float) -> None:
    while _last_step(run) < step:
        if time.monotonic() - began > LIMIT_S:
            raise SystemExit(f"step {step:.0f} of {run} did not come in {LIMIT_S:.0f} s")
        time.sleep(0.1)


def _rows(run: Path) -> list[dict[str, Any]]:
    file = run / "work" / STAGE / "metrics.jsonl"
    text = file.read_text() if file.is_file() else ""
    return [json.loads(line) for line in text[: text.rfind("\n") + 1].splitlines()]


def _last_step(run: Path) -> float:
    return max((row["step"] for row in _rows(run)), default=0)


def _shares(run: Path, again: Path) -> dict[str, float]:
    """Seconds of what keeps a step, and their share of one."""
    rows = [row for row in _rows(run) if "start_seconds" not in row]
    step_s = statistics.median(row["step_seconds"] for row in rows)
    journal = Journal(run / "journal" / STAGE)
    rollouts = journal.read(journal.steps()[-1])
    assert rollouts is not None
    copy = Journal(again / "journal")
    journal_s = _median(lambda: copy.write(0, rollouts))
    checkpoint = shutil.copytree(in_order(run / "work" / STAGE / "checkpoints")[0], again / "save")
    seal_s = _median(lambda: seal(checkpoint))
    seconds: list[tuple[float, float]] = [_published(checkpoint, again) for _ in range(REPEATS)]
    publish_s, verify_s = (statistics.median(column) for column in zip(*seconds, strict=True))
    saves = int(OVERRIDES[-1].partition("=")[2])
    kept_s = journal_s + seal_s / saves + (publish_s + verify_s) / (BEFORE + AFTER)
    return {
        "step_s": round(step_s, 3),
        "journal_s": round(journal_s, 4),
        "seal_s": round(seal_s, 4),
        "publish_s": round(publish_s, 4),
        "verify_s": round(verify_s, 4),
        "share": round(kept_s / step_s, 4),
    }


def _published(files: Path, again: Path) -> tuple[float, float]:
    """Seconds to publish a folder of these files, and to check it."""
    source, target = again / "source", again / "published"
    for path in (source, target):
        shutil.rmtree(path, ignore_errors=True)
    shutil.copytree(files, source)
    began = time.monotonic()
    publish(source, target, kind="checkpoint", stage=STAGE, fingerprint="f")
    published = time.monotonic()
    open_artifact(target)
    return published - began, time.monotonic() - published


def _median(action: Callable[[], object]) -> float:
    seconds = []
    for _ in range(REPEATS):
        began = time.monotonic()
        action()
        seconds.append(time.monotonic() - began)
    return statistics.median(seconds)


def _opening(rollouts: int, folder: Path) -> dict[str, float]:
    """Seconds of what a resume asks of a large journal."""
    journal = Journal(fresh_folder(folder))
    steps = max(rollouts // (GROUPS * SAMPLES), 1)
    journal.write(0, _step())
    for step in range(1, steps):
        for suffix in (".parquet", ".sha256"):
            source = journal.path(0).with_suffix(suffix)
            shutil.copyfile(source, journal.path(step).with_suffix(suffix))
    began = time.monotonic()
    assert not journal.damaged()
    checked = time.monotonic()
    assert all(journal.passes(step) for step in range(steps))
    counted = time.monotonic()
    assert journal.read(steps - 1) is not None
    ended = time.monotonic()
    size = sum(path.stat().st_size for path in folder.iterdir())
    return {
        "open_s": round(ended - began, 2),
        "checksums_s": round(checked - began, 2),
        "counts_s": round(counted - checked, 2),
        "rollouts": steps * GROUPS * SAMPLES,
        "journal_mib": round(size / 2**20),
    }


def _step() -> StepRollouts:
    """A step of rollouts whose numbers are as random as real ones."""
    rng = random.Random(0)
    groups = [
        Group(prompt_id=f"prompt-{g}", samples=tuple(_sample(rng, g, i) for i in range(SAMPLES)))
        for g in range(GROUPS)
    ]
    passes = {f"prompt-{g}": Counts(3, SAMPLES) for g in range(GROUPS)}
    return StepRollouts(groups=groups, metrics={"reward": 0.5}, passes=passes)


def _sample(rng: random.Random, group: int, sample: int) -> Scored:
    tokens = tuple(rng.randrange(50_000) for _ in range(TOKENS))
    return Scored(
        rollout=Rollout(
            prompt_id=f"prompt-{group}",
            sample=sample,
            seed=rng.getrandbits(62),
            prompt_tokens=tuple(range(40)),
            tokens=tokens,
            logprobs=tuple(-rng.random() for _ in tokens),
            stop="eos",
            weight_version=0,
        ),
        text=" ".join(map(str, tokens)),
        reward=float(sample % 2),
        components={"answer": float(sample % 2)},
        verdicts={"answer": "correct" if sample % 2 else "wrong"},
    )


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n\n")[0])
    parser.add_argument("--rollouts", type=int, default=1_000_000)
    parser.add_argument("--recipe", default="quickstart")
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args(arguments)
    os.environ.setdefault("PYTHONSAFEPATH", "1")
    figures = measure(options.rollouts, recipe=options.recipe)
    if options.json:
        print(json.dumps(figures))
        return
    for name, value in figures.items():
        print(f"{name:14} {value:g}")


if __name__ == "__main__":
    main()
