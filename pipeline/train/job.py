"""What a trainer process is told: plain data, sent to every rank."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pipeline.artifacts import write_atomic
from pipeline.recipe.hardware import Sharding
from pipeline.recipe.stage_base import Training

STOP_FILE = "stop"  # in the work folder; the driver makes it to ask for a checkpoint and an end
METRICS_FILE = "metrics.jsonl"  # in the work folder; one JSON object per logged step
PARTS_FILE = "parts.jsonl"  # in the work folder of a stage of parts; what each of them took
CHECKPOINTS = "checkpoints"  # in the work folder
ADAPTER_FOLDER = "adapter"  # beside the folder of the trained model, where adapters were trained
STOPPED = "stopped"
DONE = "done"


@dataclass(frozen=True, kw_only=True)
class TrainJob:
    """One training run of one stage, resumable from `work`."""

    spec: Training  # SftStage, GrpoStage, RewardModelStage or DistillStage
    model: Path  # Hugging Face folder to start from (weights, tokenizer, chat template)
    out: Path  # folder that rank 0 fills with the trained model and its tokenizer
    work: Path  # checkpoints and metrics; survives a crash
    seed: int
    device: str  # cpu or cuda
    ranks: int
    sharding: Sharding
    threads: int  # CPU threads per rank
    dtype: str = "float32"
    own_code: bool = False  # the recipe lets the model run the code that its folder brings along


def read_metrics(file: Path) -> list[dict[str, Any]]:
    """Rows of a metrics file; none when it is absent. A last line cut by a crash is left out.

    Raises JSONDecodeError for another damaged line.
    """
    if not file.exists():
        return []
    text = file.read_text()
    return [json.loads(line) for line in text[: text.rfind("\n") + 1].splitlines()]


def whole_rows(file: Path) -> list[dict[str, Any]]:
    """Rows of a metrics file without its damaged lines, wherever these are."""
    lines = file.read_text(errors="replace").splitlines() if file.exists() else []
    return [row for line in lines if (row := _row(line)) is not None]


def cut_metrics(file: Path, *, step: int) -> int:
    """Leave the rows of the first `step` updates, which training goes on from; how many of them
    lack, as their lines are damaged or gone."""
    rows = [row for row in whole_rows(file) if row["step"] <= step]
    file.parent.mkdir(parents=True, exist_ok=True)
    write_atomic(file, "".join(json.dumps(row) + "\n" for row in rows))
    return step - len(rows)


def _row(line: str) -> dict[str, Any] | None:
    """The row of a line; None where it is damaged."""
    try:
        row = json.loads(line)
    except json.JSONDecodeError:
        return None
    return row if isinstance(row, dict) and "step" in row else None
