"""A run as one HTML file: readable without a network, in light and dark, and to be passed on."""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import jinja2
from matplotlib.ticker import EngFormatter

from pipeline.artifacts import MANIFEST, published, write_atomic
from pipeline.errors import WrongInput
from pipeline.recipe.stage_base import BASE
from pipeline.stages.drop_log import run_drops
from pipeline.stages.run_folder import FINDINGS_FILE
from pipeline.stages.run_lock import is_held
from pipeline.stages.vocabulary_use import pruning_text
from pipeline.watch.alarms import alarms_of, log_end, unended
from pipeline.watch.compare import p_text, points
from pipeline.watch.console import duration
from pipeline.watch.costs import costs_of
from pipeline.watch.curves import curve_png
from pipeline.watch.depth_section import depth_section
from pipeline.watch.explorer import EXPLORER_FILE, write_explorer
from pipeline.watch.page import page_environment
from pipeline.watch.provenance import provenance
from pipeline.watch.result_tables import result_tables
from pipeline.watch.rollout_log import show, steps_of
from pipeline.watch.run_reading import (
    REPORT_FILE,
    RunReadError,
    json_of,
    metrics_of,
    recipe_of,
    recipe_text,
)
from pipeline.watch.stage_curves import stage_curves

SAMPLES_SHOWN = 3
"""Prompts whose first completions are shown per GRPO stage."""

_HARDWARE = ("device", "ranks", "sharding", "engines")
_ALL = 1_000_000


class ReportError(WrongInput):
    """The folder is no run folder, or lacks what was asked for."""


def write_report(run_dir: Path) -> Path:
    """Write `report.html` into a run folder, from whatever the run has left there by now, and
    beside it `explorer.html` where there are rollouts.

    Raises RunReadError when the folder has no resolved recipe.
    """
    text = recipe_text(run_dir)
    recipe = recipe_of(run_dir)
    stages = _stages(run_dir)
    names = [stage["name"] for stage in stages]
    page = _template().render(
        name=recipe["name"],
        seed=recipe.get("seed"),
        hardware=_hardware(recipe.get("hardware") or {}),
        vocabulary=_vocabulary(run_dir),
        provenance=provenance(run_dir),
        stages=stages,
        total=duration(sum(stage["seconds"] for stage in stages)),
        unended=unended(stages, is_held=is_held(run_dir)),
        log_end=log_end(run_dir),
        alarms=alarms_of(run_dir, names),
        costs=costs_of(run_dir, stages, recipe),
        results=result_tables(run_dir, recipe),
        curves=stage_curves(run_dir, names, recipe),
        funnels=_funnels(run_dir),
        drops=run_drops(run_dir),
        findings=json_of(run_dir / FINDINGS_FILE),
        pairs=_pairs(run_dir),
        depths=_depths(run_dir),
        samples=_samples(run_dir, names),
        rollouts=_rollouts(run_dir),
        explorer=EXPLORER_FILE,
        recipe=text,
        run_dir=run_dir.resolve().name,
    )
    write_atomic(run_dir / REPORT_FILE, page)
    return run_dir / REPORT_FILE


def report_if_readable(run_dir: Path, *, tell: Callable[[str], None]) -> Path | None:
    """The report of a run that has just ended; None where a file that it shows is damaged, which
    `tell` is told: nothing else of the run depends on it."""
    try:
        return write_report(run_dir)
    except RunReadError as error:
        tell(f"warning: there is no report: {error}; the run itself is done")
        return None


def curve_picture(run_dir: Path, stage: str, out: Path) -> Path:
    """Write a PNG of a stage's reward and held-out accuracy by step.

    Raises ReportError when the stage has neither.
    """
    rows = metrics_of(run_dir, stage)
    if not any("reward" in row or "held_out_accuracy" in row for row in rows):
        raise ReportError(
            f"stage {stage} of {run_dir} has neither reward nor held-out accuracy in its metrics; "
            "name a GRPO stage, or one with watch:"
        )
    name = recipe_of(run_dir)["name"]
    return curve_png(rows, out, title=f"{name}: {stage}")


def _template() -> jinja2.Template:
    environment = page_environment()
    environment.filters |= {
        "duration": duration,
        "percent": "{:.1%}".format,
        "points": points,
        "p": p_text,
        "si": EngFormatter(sep="\u2009", places=1),
    }
    return environment.get_template("report.html.j2")


def _stages(run_dir: Path) -> list[dict[str, Any]]:
    """The stages of state.json, artifacts relative to the run folder, wherever it is by now."""
    stages = [
        {"seconds": 0.0, "artifact": None, "error": None, **s}
        for s in json_of(run_dir / "state.json")
    ]
    for stage in stages:
        if stage["artifact"]:
            stage["artifact"] = f"stages/{stage['name']}"
        stage["seconds"] = stage["seconds"] or 0.0
    return stages


def _hardware(hardware: Mapping[str, Any]) -> list[tuple[str, str]]:
    """The settings that say what a run ran on."""
    return [(key, str(hardware[key])) for key in _HARDWARE if hardware.get(key) is not None]


def _vocabulary(run_dir: Path) -> str:
    """How the base model's vocabulary was pruned; empty where it was not."""
    manifest = run_dir / "inputs" / BASE / MANIFEST
    info = json_of(manifest)["info"] if manifest.is_file() else {}
    return pruning_text(info) if "of_tokens" in info else ""


def _funnels(run_dir: Path) -> list[dict[str, Any]]:
    """The funnels of counts that manifests hold, each count with its share of the first."""
    funnels = []
    for path in published(run_dir / "stages"):
        funnel: Mapping[str, float] = _info(path).get("funnel") or {}
        first = max([*list(funnel.values())[:1], 1])
        rows = [(name, count, min(count / first, 1.0)) for name, count in funnel.items()]
        if rows:
            funnels.append({"stage": path.name, "rows": rows})
    return funnels


def _pairs(run_dir: Path) -> list[dict[str, Any]]:
    """Of every reward model: its pairs, and the mean tokens of both sides."""
    infos = [{"stage": path.name, **_info(path)} for path in published(run_dir / "stages")]
    return [info for info in infos if "chosen_tokens" in info]


def _depths(run_dir: Path) -> list[dict[str, Any]]:
    """What every depth stage found."""
    sections = []
    for path in published(run_dir / "stages"):
        found = _info(path).get("depth")
        if found:
            sections.append(depth_section(path.name, found))
    return sections


def _info(artifact: Path) -> Mapping[str, Any]:
    return json_of(artifact / MANIFEST)["info"]


def _samples(run_dir: Path, names: Sequence[str]) -> list[dict[str, Any]]:
    """Completions of the first and the last journaled step of every GRPO stage."""
    shown = []
    for name in names:
        steps = list(steps_of(run_dir, name))
        if len(steps) > 1:
            sides = [
                _first_samples(show(run_dir, stage=name, step=step, limit=_ALL))
                for step in (steps[0], steps[-1])
            ]
            shown.append({"stage": name, "steps": (steps[0], steps[-1]), "rows": _paired(*sides)})
    return shown


def _rollouts(run_dir: Path) -> str:
    """What the page of rollouts holds; empty where there is none. A damaged journal is no reason to
    have no report."""
    try:
        data = write_explorer(run_dir)
    except RunReadError as error:
        return f"none, since {error}"
    return "" if data is None else data.note


def _first_samples(rows: Sequence[dict[str, Any]]) -> dict[str, dict[str, Any]]:
    """Each prompt's first completion, by prompt id."""
    return {row["prompt_id"]: row for row in reversed(rows)}


def _paired(
    before: Mapping[str, dict[str, Any]], after: Mapping[str, dict[str, Any]]
) -> list[tuple[dict[str, Any], dict[str, Any]]]:
    """A few completions side by side: of the same prompts where both steps had them."""
    common = sorted(set(before) & set(after))
    pairs = [(before[key], after[key]) for key in common]
    others = zip(
        (before[k] for k in sorted(before) if k not in common),
        (after[k] for k in sorted(after) if k not in common),
        strict=False,
    )
    return [*pairs, *others][:SAMPLES_SHOWN]
