"""Part 1: SFT at random depth, so that the model answers at any."""

import dataclasses
import shutil
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any

from pipeline.depth.bench import Bench
from pipeline.depth.parts import Part
from pipeline.measure.drops import Drop
from pipeline.recipe.depth_parts import RandomDepthSft
from pipeline.recipe.depth_stage import DepthStage
from pipeline.recipe.sft_stage import RandomDepths, SftStage
from pipeline.stages.drop_log import too_long
from pipeline.stages.support import MODEL_FOLDER, train, train_job
from pipeline.stages.training_rows import write_rows
from pipeline.train import training_calls
from pipeline.train.job import CHECKPOINTS

SEGMENT = 1  # tokens that share a depth: a halting policy may choose any for each
FOLDER = "random-depth"  # in the stage's work folder: the part's checkpoints and metrics


def make(bench: Bench, out: Path, *, model: Path) -> Mapping[str, Any]:
    """Fine-tune `model` on the stage's rows; the trainer's info.

    In a folder of its own: the stage's metrics are those of its policy gradients.
    """
    plan = bench.plan
    ctx = dataclasses.replace(bench.ctx, work=bench.ctx.work / FOLDER)
    ctx.work.mkdir(exist_ok=True)
    job = train_job(ctx, plan, model=model, spec=sft_of(bench.spec), out=out / MODEL_FOLDER)
    rows = write_rows(ctx, plan, model=model)
    info = train(ctx, plan, partial(training_calls.sft, job, rows))
    shutil.rmtree(ctx.work / CHECKPOINTS, ignore_errors=True)
    return info


def too_long_rows(bench: Bench, finished: Part) -> Drop:
    """The rows that the part left out."""
    tokens = sft_of(bench.spec).max_tokens
    key = f"stages.{bench.plan.name}.random_depth.max_tokens"
    return too_long(finished.info, "rows", tokens=tokens, key=key)


def sft_of(spec: DepthStage) -> SftStage:
    """The part as a stage of its own."""
    settings = spec.random_depth or RandomDepthSft()
    return SftStage(
        kind="sft",
        init=spec.init,
        rows=spec.rows or [],
        random_depths=RandomDepths(
            high=spec.max_depth, segment=SEGMENT, prompt_depth=spec.prompt_depth
        ),
        epochs=1,
        **settings.model_dump(),
    )
