"""Part 1: SFT at random depth, so that the model answers at any."""

import dataclasses
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pipeline.plan.stage_plan import StagePlan
from pipeline.recipe.depth_stage import DepthStage, RandomDepthSft
from pipeline.recipe.sft_stage import RandomDepths, SftStage
from pipeline.stages.context import RunContext
from pipeline.stages.support import MODEL_FOLDER, train, train_job
from pipeline.stages.training_rows import write_rows
from pipeline.train.job import CHECKPOINTS

FOLDER = "random-depth"  # in the stage's work folder: the part's checkpoints and metrics


def make(plan: StagePlan, ctx: RunContext, out: Path, *, model: Path) -> Mapping[str, Any]:
    """Fine-tune `model` on the stage's rows; the trainer's info.

    The stage's own metrics are those of its policy gradients.
    """
    assert isinstance(plan.spec, DepthStage)
    own = dataclasses.replace(ctx, work=ctx.work / FOLDER)
    own.work.mkdir(exist_ok=True)
    job = train_job(own, plan, model=model, spec=sft_of(plan.spec), out=out / MODEL_FOLDER)
    rows = write_rows(own, plan, model=model)
    info = train(own, plan, "pipeline.train.sft_trainer:train", (job, rows))
    shutil.rmtree(own.work / CHECKPOINTS, ignore_errors=True)
    return info


def sft_of(spec: DepthStage) -> SftStage:
    """The part as a stage of its own."""
    settings = spec.random_depth or RandomDepthSft()
    return SftStage(
        kind="sft",
        init=spec.init,
        rows=spec.rows or [],
        random_depths=RandomDepths(
            high=spec.max_depth, segment=settings.segment, prompt_depth=spec.prompt_depth
        ),
        **settings.model_dump(exclude={"segment"}),
    )
