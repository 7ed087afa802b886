"""What a run wrote as data frames: a row a rollout, a row a line of metrics."""

import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa

from pipeline.records import Prompt
from pipeline.watch.metric_tables import metrics_by_stage
from pipeline.watch.rollout_files import RolloutFile, list_lengths, read_columns, rollout_files
from pipeline.watch.rollout_log import (
    no_steps,
    no_such_stage,
    no_such_step,
    nothing_written,
    prompts_of,
)
from pipeline.watch.run_reading import recipe_of

_READ = (
    "prompt_id",
    "sample",
    "text",
    "reward",
    "components",
    "verdicts",
    "details",
    "tokens",
    "depths",
    "stop",
    "weight_version",
)
_LISTS = ("tokens", "depths")
_FIRST = ("stage", "step", "model", "prompt_id", "sample", "question", "gold", "completion")


def rollout_frame(run_dir: Path, *, stage: str | None, step: int | None) -> pd.DataFrame:
    """Every rollout of a run, of one stage or of one step of it, in the order of its recipe.

    Raises RolloutsError naming what there is instead, RunReadError where the folder is no run's or
    a file cannot be read.
    """
    files = rollout_files(run_dir, list(recipe_of(run_dir).get("stages") or {}))
    prompts = prompts_of(run_dir)
    rows = [row for file in _of(run_dir, files, stage, step) for row in _rows(file, prompts)]
    columns = dict.fromkeys([*_FIRST, *(name for row in rows for name in row)])
    frame = pd.DataFrame(rows, columns=pd.Index(list(columns)))
    return frame.astype({"step": "Int64"})  # of an evaluation or a harvest none


def metric_frame(run_dir: Path, *, stage: str | None) -> pd.DataFrame:
    """Every row of metrics of a run or of one stage, the stage's name before what it measured.

    Raises RunReadError where the folder is no run's, or the stage has none.
    """
    stages = metrics_by_stage(run_dir, stage)
    rows = [{"stage": name, **row} for name, part in stages.items() for row in part]
    return pd.DataFrame(rows, columns=None if rows else pd.Index(["stage", "step"]))


def _of(
    run_dir: Path, files: Sequence[RolloutFile], stage: str | None, step: int | None
) -> Sequence[RolloutFile]:
    """The files that were asked for."""
    if not files:
        raise nothing_written(run_dir)
    if stage is not None:
        known = list(dict.fromkeys(_names(file)[0] for file in files))
        files = [file for file in files if _names(file)[0] == stage]
        if not files:
            raise no_such_stage(run_dir, stage, known)
    if step is None:
        return files
    stepped = [file for file in files if file.step is not None]
    name = ", ".join(dict.fromkeys(_names(file)[0] for file in stepped or files))
    if not stepped:
        raise no_steps(name)
    if not any(file.step == step for file in stepped):
        raise no_such_step(name, step, sorted({file.step for file in stepped if file.step}))
    return [file for file in stepped if file.step == step]


def _names(file: RolloutFile) -> tuple[str, str | None]:
    """(stage, model); the model of an evaluation alone."""
    stage, _, model = file.source.partition(": ")
    return stage, model or None


def _rows(file: RolloutFile, prompts: Mapping[str, Prompt]) -> Iterator[dict[str, Any]]:
    table = read_columns(file.path, _READ)
    stage, model = _names(file)
    lengths, depths = list_lengths(table["tokens"]), _mean_depths(table)
    plain = table.select([name for name in table.column_names if name not in _LISTS])
    for row, length, depth in zip(plain.to_pylist(), lengths.tolist(), depths, strict=True):
        prompt = prompts.get(row["prompt_id"])
        yield {
            "stage": stage,
            "step": file.step,
            "model": model,
            "prompt_id": row["prompt_id"],
            "sample": row["sample"],
            "question": prompt.question if prompt else None,
            "gold": prompt.answer if prompt else None,
            "completion": row["text"],
            "reward": row["reward"],
            **{f"reward.{name}": v for name, v in json.loads(row["components"]).items()},
            **{f"verdict.{name}": v for name, v in json.loads(row["verdicts"]).items()},
            "details": json.loads(row.get("details") or "{}"),
            "tokens": length,
            "depth": depth,
            "stop": row["stop"],
            "weight_version": row["weight_version"],
        }


def _mean_depths(table: pa.Table) -> list[float | None]:
    """Iterations that a token of each rollout ran in the mean; None of a dense model's."""
    if "depths" not in table.column_names:
        return [None] * table.num_rows
    return [float(np.mean(depths)) if depths else None for depths in table["depths"].to_pylist()]
