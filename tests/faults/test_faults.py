"""Processes are killed and stopped at named instants of a step and of a save: the end is the same.

A run of each chain meets its faults one after the other, and is launched again until it is done.
What it made is compared with that of a run that nobody disturbed: weights, journal and metrics.
"""

import signal
from pathlib import Path
from typing import Any

import pytest

from pipeline.errors import STOPPED
from tests.faults.launches import Fault, finished, outcome, project

STOP, TERM = signal.SIGSTOP, signal.SIGTERM


def step(at: int, target: str = "self", **keys: Any) -> Fault:
    """A fault as a step gets its name in the journal."""
    path = rf"-> .*journal/reason/step-{at:06d}\.parquet"
    return Fault(event="os.rename", path=path, target=target, **keys)


COLD, REASON = "work/cold/checkpoints/checkpoint", "work/reason/checkpoints/checkpoint"
CHAINS: dict[str, dict[str, Fault]] = {
    "a step": {
        "rank: before a row of metrics": Fault(event="open", path=r"reason/metrics\.jsonl \[a\]"),
        "service: before a step is on disk": Fault(event="open", path=r"/\.step-000001\.parquet"),
        "service: before a step has its name": step(1),
        "service: between a checksum and its step": Fault(
            event="os.rename", path=r"-> .*journal/reason/step-000001\.sha256"
        ),
        "driver: as a step is journaled": step(1, "driver"),
        "engine: as a step is journaled": step(2, "engine-0"),
        "rank: as a step is journaled": step(3, "trainer-0"),
        "verifier: as a step is journaled": step(4, "verifier"),
        "raylet: as a step is journaled": step(5, "raylet"),
        "gcs: as a step is journaled": step(6, "gcs_server"),
        "driver told to stop": step(7, "driver", number=TERM),
        "engine stopped": step(8, "engine-0", number=STOP),
        "rank stopped": step(9, "trainer-0", number=STOP),
    },
    "a save": {
        "rank: in a checkpoint of SFT": Fault(event="open", path=rf"{COLD}-2/trainer_state\.json"),
        "rank: as a checkpoint begins": Fault(event="os.mkdir", path=rf"{REASON}-2$"),
        "rank: in a checkpoint": Fault(event="open", path=rf"{REASON}-2/trainer_state\.json"),
        "rank: before a checkpoint is on disk": Fault(
            event="open", path=rf"{REASON}-2/optimizer\.pt"
        ),
        "rank: before a checkpoint is marked": Fault(
            event="os.rename", path=rf"-> .*{REASON}-2/complete"
        ),
        "driver: in a checkpoint": Fault(
            event="open", path=rf"{REASON}-4/trainer_state\.json \[w\]", target="driver"
        ),
        "rank: as an old checkpoint goes": Fault(event="shutil.rmtree", path=rf"{REASON}-6$"),
        "rank: in the last save": Fault(
            event="open", path=r"work/\.reason\.out/model/tokenizer_config\.json"
        ),
    },
    "the publishing of a stage, and the run's own files": {
        "driver: before the table of stages": Fault(event="os.rename", path=r"-> .*/state\.json"),
        "driver: before the base has its name": Fault(event="os.rename", path=r"-> .*inputs/base$"),
        "driver: before an artifact has its name": Fault(
            event="os.rename", path=r"-> .*stages/cold$"
        ),
        "driver: before a manifest": Fault(
            event="os.rename", path=r"-> .*work/\.reason\.out/manifest\.json"
        ),
        "driver: before checkpoints go": Fault(
            event="shutil.rmtree", path=r"work/reason/checkpoints$"
        ),
    },
}
SLICE = CHAINS["a save"]["rank: before a checkpoint is marked"]
"""What `make test` tries of them."""


@pytest.mark.faults
@pytest.mark.parametrize("chain", CHAINS)
def test_the_end_is_the_same(chain: str, undisturbed: dict[str, Any], tmp_path: Path) -> None:
    folder, faults = project(tmp_path), CHAINS[chain]
    ends = finished(folder, *faults.values())
    codes = [code for code, _ in ends]
    assert (STOPPED in codes) == ("driver told to stop" in faults), codes
    assert outcome(folder / "runs" / "faults") == undisturbed


def test_a_rank_that_dies_in_a_save(undisturbed: dict[str, Any], tmp_path: Path) -> None:
    folder = project(tmp_path)
    finished(folder, SLICE)
    assert outcome(folder / "runs" / "faults") == undisturbed
