"""Processes are killed and stopped at named instants of a step and of a save: the end is the same.

Every row is a run that meets one fault, and is launched again until it is done. What it made is
compared with that of a run that nobody disturbed: weights, journal and metrics.
"""

import signal
from pathlib import Path
from typing import Any

import pytest

from tests.faults.launches import Fault, finished, outcome, project

KILL, STOP, TERM = signal.SIGKILL, signal.SIGSTOP, signal.SIGTERM

STEP, NEXT = r"journal/reason/step-000002\.parquet", r"journal/reason/step-000003\.parquet"
COLD, REASON = r"work/cold/checkpoints/checkpoint-2", r"work/reason/checkpoints/checkpoint-2"
FAULTS: dict[str, Fault] = {
    # a step
    "service: before a step is on disk": Fault(event="open", path=r"/\.step-000002\.parquet"),
    "service: before a step has its name": Fault(event="os.rename", path=rf"-> .*{STEP}"),
    "service: between a checksum and its step": Fault(
        event="os.rename", path=r"-> .*journal/reason/step-000002\.sha256"
    ),
    "driver: as a step is journaled": Fault(
        event="os.rename", path=rf"-> .*{STEP}", target="driver"
    ),
    "engine: as a step is journaled": Fault(
        event="os.rename", path=rf"-> .*{STEP}", target="engine-0"
    ),
    "rank: as a step is journaled": Fault(
        event="os.rename", path=rf"-> .*{NEXT}", target="trainer-0"
    ),
    "verifier: as a step is journaled": Fault(
        event="os.rename", path=rf"-> .*{STEP}", target="verifier"
    ),
    "raylet: as a step is journaled": Fault(
        event="os.rename", path=rf"-> .*{STEP}", target="raylet"
    ),
    "gcs: as a step is journaled": Fault(
        event="os.rename", path=rf"-> .*{STEP}", target="gcs_server"
    ),
    "rank: before a row of metrics": Fault(event="open", path=r"work/reason/metrics\.jsonl"),
    "engine stopped": Fault(
        event="os.rename", path=rf"-> .*{STEP}", target="engine-0", number=STOP
    ),
    "rank stopped": Fault(event="os.rename", path=rf"-> .*{STEP}", target="trainer-0", number=STOP),
    "driver told to stop": Fault(
        event="os.rename", path=rf"-> .*{STEP}", target="driver", number=TERM
    ),
    # a save
    "rank: as a checkpoint begins": Fault(event="os.mkdir", path=rf"{REASON}$"),
    "rank: in a checkpoint": Fault(event="open", path=rf"{REASON}/trainer_state\.json"),
    "rank: before a checkpoint is on disk": Fault(event="open", path=rf"{REASON}/optimizer\.pt"),
    "rank: before a checkpoint is marked": Fault(
        event="os.rename", path=rf"-> .*{REASON}/complete"
    ),
    "rank: as an old checkpoint goes": Fault(event="shutil.rmtree", path=rf"{REASON}$"),
    "rank: in a checkpoint of SFT": Fault(event="open", path=rf"{COLD}/trainer_state\.json"),
    "driver: in a checkpoint": Fault(
        event="open", path=rf"{REASON}/trainer_state\.json", target="driver"
    ),
    "rank: in the last save": Fault(
        event="open", path=r"work/\.reason\.out/model/tokenizer_config\.json"
    ),
    # the publishing of a stage, and the run's own files
    "driver: before a manifest": Fault(
        event="os.rename", path=r"-> .*work/\.reason\.out/manifest\.json"
    ),
    "driver: before an artifact has its name": Fault(event="os.rename", path=r"-> .*stages/cold$"),
    "driver: before checkpoints go": Fault(event="shutil.rmtree", path=r"work/reason/checkpoints"),
    "driver: before the base has its name": Fault(event="os.rename", path=r"-> .*inputs/base$"),
    "driver: before the table of stages": Fault(event="os.rename", path=r"-> .*/state\.json"),
}
SLICE = ("rank: before a checkpoint is marked",)
"""What `make test` tries of them."""


@pytest.mark.parametrize(
    "name",
    [pytest.param(name, marks=() if name in SLICE else pytest.mark.faults) for name in FAULTS],
)
def test_the_end_is_the_same(name: str, undisturbed: dict[str, Any], tmp_path: Path) -> None:
    folder = project(tmp_path)
    ends = finished(folder, FAULTS[name])
    assert (folder / "mark").exists(), "the fault did not happen"
    assert all("Traceback" not in text for _, text in ends)
    assert outcome(folder / "runs" / "faults") == undisturbed
