"""The plain files of a run folder, as whoever looks at it reads them. All of it moves with the
folder: nothing here follows a path that a file has written down."""

import json
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml

from pipeline.errors import WrongInput
from pipeline.train.job import METRICS_FILE, read_metrics

REPORT_FILE = "report.html"


class RunReadError(WrongInput):
    """The folder is no run folder, or lacks what was asked for."""


def recipe_text(run_dir: Path) -> str:
    """The run's resolved recipe. Raises RunReadError where there is none."""
    file = run_dir / "recipe.yaml"
    if not file.is_file():
        there = "it has no recipe.yaml" if run_dir.is_dir() else "there is no such folder"
        raise RunReadError(f"{run_dir} is no run folder: {there}; name one such as runs/quickstart")
    return file.read_text(encoding="utf-8")


def recipe_of(run_dir: Path) -> dict[str, Any]:
    """The run's resolved recipe, as plain data. Raises RunReadError where it is none."""
    try:
        recipe = yaml.safe_load(recipe_text(run_dir))
    except yaml.YAMLError as error:
        raise RunReadError(f"{run_dir / 'recipe.yaml'} is no YAML: {error}") from None
    if not isinstance(recipe, dict):
        raise RunReadError(f"{run_dir / 'recipe.yaml'} is no recipe")
    return recipe


def json_of(file: Path) -> Any:
    """What a JSON file holds; an empty list where there is none.

    Raises RunReadError where it is damaged.
    """
    try:
        return json.loads(file.read_text(encoding="utf-8")) if file.is_file() else []
    except ValueError as error:
        raise RunReadError(f"{file} is damaged: {error}") from None


def metrics_of(run_dir: Path, stage: str) -> list[dict[str, Any]]:
    """A stage's metric rows; none when it wrote none. A last line cut by a crash is left out."""
    places = (run_dir / "metrics" / f"{stage}.jsonl", run_dir / "work" / stage / METRICS_FILE)
    path = next((place for place in places if place.is_file()), None)
    return _metric_rows(path) if path else []


def metrics_by_part(run_dir: Path, stage: str) -> dict[str, list[dict[str, Any]]]:
    """A stage's metric rows after those of its parts that train in folders of their own, by name:
    "depth, random depth"."""
    files = sorted((run_dir / "work" / stage).glob(f"*/{METRICS_FILE}"))
    parts = {f"{stage}, {path.parent.name.replace('-', ' ')}": _metric_rows(path) for path in files}
    return {**parts, stage: metrics_of(run_dir, stage)}


def _metric_rows(file: Path) -> list[dict[str, Any]]:
    try:
        return read_metrics(file)
    except ValueError as error:
        raise RunReadError(f"{file} is damaged: {error}") from None


def finite(rows: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Rows for a JSON document, which has no NaN and no infinity: None in their place."""
    return [
        {
            key: None if isinstance(value, float) and not math.isfinite(value) else value
            for key, value in row.items()
        }
        for row in rows
    ]


def run_names(run_dirs: Sequence[Path]) -> dict[Path, str]:
    """What to call runs: by their folders' names, and by their paths where two have the same."""
    names = [path.resolve().name for path in dict.fromkeys(run_dirs)]
    return {
        path: str(path) if names.count(path.resolve().name) > 1 else path.resolve().name
        for path in run_dirs
    }
