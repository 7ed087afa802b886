"""`stepwell plan --probe`: a recipe in miniature, run as any other, and the rates that it shows."""

import tempfile
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from statistics import fmean
from typing import Any

from pipeline.artifacts import open_artifact
from pipeline.plan.measured import Measured, Rate
from pipeline.plan.plan import make_plan
from pipeline.plan.probe_rates import (
    DepthRun,
    Evaluation,
    depth_rate,
    evaluation_rate,
    training_rate,
)
from pipeline.plan.probe_recipe import FEW, KINDS, MANY, ProbeRecipe, probe_recipe
from pipeline.plan.stage_plan import Plan, PlanError
from pipeline.recipe.depth_stage import DepthStage
from pipeline.recipe.schema import Recipe
from pipeline.stages.context import Console
from pipeline.stages.progress import RunResult
from pipeline.start import run_planned
from pipeline.train.job import METRICS_FILE, PARTS_FILE, read_metrics, whole_rows


def measure(plan: Plan, *, console: Console, tell: Callable[[str], None]) -> Measured:
    """Run a few steps of the plan's kinds of stages in a temporary folder, which is gone after it.

    Raises PlanError where no stage can be measured, RunFailed where the miniature fails.
    """
    probe = probe_recipe(plan.recipe)
    if not probe.recipe.stages:
        kinds = f"{', '.join(KINDS[:-1])} and {KINDS[-1]}"
        raise PlanError(
            f"--probe measures {kinds} stages, and none here can run by itself "
            f"({_reasons(probe.left_out) or 'there is none'}); leave --probe out"
        )
    small = make_plan(probe.recipe, cores=plan.cores)
    stages = ", ".join(dict.fromkeys(probe.stands_for.values()))
    tell(f"probing: a few steps of {stages}, each from the base, in a temporary folder")
    with tempfile.TemporaryDirectory(prefix="stepwell-probe-") as folder:
        began = time.monotonic()
        result = run_planned(small, console=console, tell=tell, run_dir=Path(folder))
        seconds = time.monotonic() - began
        return _measured(plan.recipe, probe, result, seconds=seconds)


def _measured(recipe: Recipe, probe: ProbeRecipe, result: RunResult, *, seconds: float) -> Measured:
    took = {state.name: state.seconds or 0.0 for state in result.stages}
    rates: dict[str, Rate] = {}
    left_out = dict(probe.left_out)
    for kind in ("sft", "grpo"):
        if kind not in probe.stands_for:
            continue
        rate = training_rate(
            probe.recipe,
            kind,
            read_metrics(result.run_dir / "work" / kind / METRICS_FILE),
            seconds=took[kind],
            stage=probe.stands_for[kind],
        )
        if rate is None:
            left_out[kind] = "its rows make no two steps"
        else:
            rates[kind] = rate
    if "many" in probe.stands_for:
        few, many = (
            _evaluation(_row(result, samples), took[name])
            for name, samples in (("few", FEW), ("many", MANY))
        )
        rates["evaluate"] = evaluation_rate(
            probe.recipe, "many", few, many, stage=probe.stands_for["many"]
        )
    if "depth_many" in probe.stands_for:
        sft = rates.get("sft")
        rates["depth"] = depth_rate(
            recipe,
            probe.stands_for["depth_many"],
            *(_depth_run(probe, result, name, took[name]) for name in ("depth_few", "depth_many")),
            train_flops_per_s=None if sft is None else sft.train_flops_per_s,
        )
    return Measured(
        rates=rates,
        run_s=max(seconds - sum(took.values()), 0.0),
        seconds=seconds,
        left_out=left_out,
    )


def _depth_run(probe: ProbeRecipe, result: RunResult, name: str, seconds: float) -> DepthRun:
    stage = probe.recipe.stages[name]
    assert isinstance(stage, DepthStage)
    work = result.run_dir / "work" / name
    headroom = open_artifact(work / "parts" / "2-headroom", verify=False).manifest.info
    return DepthRun(
        stage=stage,
        seconds=seconds,
        parts={row["part"]: row["part_seconds"] for row in whole_rows(work / PARTS_FILE)},
        tokens=fmean(depth["tokens"] for depth in headroom["by_depth"]),
    )


def _row(result: RunResult, samples: int) -> Mapping[str, Any]:
    (row,) = (row for row in result.results if row["samples_per_prompt"] == samples)
    return row


def _evaluation(row: Mapping[str, Any], seconds: float) -> Evaluation:
    count, length = row["problems"] * row["samples_per_prompt"], row["mean_tokens"]
    return Evaluation(tokens=count * length, completion_tokens=length, seconds=seconds)


def _reasons(left_out: Mapping[str, str]) -> str:
    return "; ".join(f"{kind}: {why}" for kind, why in left_out.items())
