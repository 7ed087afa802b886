"""A run on one host that lasts long enough to be stopped in its middle, and what came of it."""

import hashlib
import time
from collections.abc import Callable
from pathlib import Path

from tests.launch.test_files import MINE

WAIT_S = 900.0
NAME = "mine.1"
REWARD = """
import time

def brief(sample):
    time.sleep(0.05)  # so that a stop finds the run in its middle
    return len(sample.completion) / 100
"""
HARDWARE = "hardware: {device: cpu, engine: native, threads_per_rank: 1, threads_per_engine: 1}\n"


def write_project(folder: Path, *, steps: int) -> None:
    """`mine.yaml`, a recipe of so many steps, and its reward."""
    recipe = MINE.replace("file: rows/train.jsonl", "task: swaps, size: 64, difficulty: [2, 3]")
    recipe = recipe.replace(
        "steps: 2", f"steps: {steps}, prompts_per_step: 4, micro_batch_rows: 16"
    )
    (folder / "mine.yaml").write_text(recipe + HARDWARE)
    (folder / "brief.py").write_text(REWARD)


def wait_until(holds: Callable[[], bool]) -> None:
    end = time.monotonic() + WAIT_S
    while not holds():
        assert time.monotonic() < end
        time.sleep(0.5)


def has_step(run: Path, step: int) -> bool:
    """Whether the rollouts of a step, counted from 0, are there."""
    return (run / "journal" / "reason" / f"step-{step:06d}.parquet").exists()


def weights(run: Path) -> dict[str, str]:
    """Checksums of what the run made; none before its end."""
    files = sorted((run / "stages" / "reason" / "model").glob("*.safetensors"))
    return {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in files}
