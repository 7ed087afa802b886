"""Part 4's rival of one cross-entropy: a "right already?" head, tuned by rollouts on calibration
prompts.

It has a grid where the policy has its rollouts: both kinds of labels that others' rollouts give for
nothing, at two rates. The one whose settings reach furthest on calibration prompts is taken.
"""

import itertools
import math
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from pipeline.depth import depth_calls, headroom_part
from pipeline.depth.bench import Bench
from pipeline.depth.head_job import head_job
from pipeline.depth.labels.labels_part import LATER, LOSSES, ROLLOUTS
from pipeline.depth.members import threshold_request
from pipeline.depth.trainer_jobs import RightLabels
from pipeline.measure.pareto import hypervolume
from pipeline.recipe.depth_parts import RIGHT_THRESHOLDS
from pipeline.recipe.depth_stage import DepthStage
from pipeline.stages.support import MODEL_FOLDER

RATES = (5e-4, 2e-3)
THRESHOLDS = [1 / (1 + math.exp(-logit)) for logit in np.linspace(4, -4, RIGHT_THRESHOLDS).tolist()]
"""Chances of being right already from which a token leaves, evenly in their logits."""

BEYOND, LEAST_BOX = 1.05, 0.99  # of the hypervolume's corner: share over the dearest, most accurate


def make(bench: Bench, out: Path, *, model: Path, labels: Path, room: Path) -> Mapping[str, Any]:
    """Train and measure every candidate; the best becomes the part's model, and gets a judge of
    paths, of the same rate, beside its weights. Info: `candidates`."""
    spec = bench.spec
    sources = _sources(spec, labels=labels, room=room)
    candidates = []
    for number, (kind, lr) in enumerate(itertools.product(sources, RATES)):
        folder = out / f"candidate-{number}"
        job = head_job(bench.plan, bench.ctx, model=model, out=folder)
        report = bench.call(
            depth_calls.train_right,
            job,
            labels=sources[kind],
            steps=spec.warm_start.steps,
            lr=lr,
            width=spec.halting_width,
        )
        points = _points(bench, folder, area=f"right-{number}")
        candidates.append({"labels": kind, "lr": lr, **report, "points": points})
    bench.forget()  # its folder moves
    best = best_of([candidate["points"] for candidate in candidates])
    shutil.move(out / f"candidate-{best}", out / MODEL_FOLDER)
    for folder in out.glob("candidate-*"):
        shutil.rmtree(folder)
    bench.call(
        depth_calls.train_judge,
        head_job(bench.plan, bench.ctx, model=model, out=out / MODEL_FOLDER),
        room / headroom_part.ROLLOUTS,
        steps=spec.warm_start.steps,
        lr=candidates[best]["lr"],
        width=spec.halting_width,
    )
    return {"candidates": candidates, "best": best}


def best_of(points: list[list[tuple[float, float]]]) -> int:
    """The candidate whose points (FLOPs, accuracy) dominate most of a box common to all; the first
    of equals."""
    every = list(itertools.chain(*points))
    worst = BEYOND * max(cost for cost, _ in every)
    floor = min(LEAST_BOX, *(accuracy for _, accuracy in every))
    volumes = [hypervolume(some, (worst, floor)) for some in points]
    return volumes.index(max(volumes))


def _sources(spec: DepthStage, *, labels: Path, room: Path) -> dict[str, RightLabels]:
    fixed = RightLabels(rollouts=room / headroom_part.ROLLOUTS)
    if spec.warm_start.labels != "later":
        return {"fixed": fixed}
    later = RightLabels(rollouts=labels / ROLLOUTS, losses=labels / LOSSES, later=labels / LATER)
    return {"fixed": fixed, "later": later}


def _points(bench: Bench, model: Path, *, area: str) -> list[tuple[float, float]]:
    """(FLOPs, accuracy) of a candidate at every threshold, by rollouts on calibration prompts."""
    spec = bench.spec
    prompts = bench.prompts(spec.calibration, spec.calibrate.size)
    answers = [
        bench.measure(
            model,
            prompts,
            threshold_request(spec, "right", threshold),
            entry=spec.calibration,
            samples=1,
            area=area,
        ).answers
        for threshold in THRESHOLDS
    ]
    return [(float(some.flops.mean()), some.accuracy) for some in answers]
