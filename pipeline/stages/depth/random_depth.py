"""Part 1: SFT at random depth, so that the model answers at any."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pipeline.plan import StagePlan
from pipeline.recipe import DepthStage, RandomDepths, RandomDepthSft, SftStage
from pipeline.stages.context import RunContext
from pipeline.stages.rows import write_rows
from pipeline.stages.support import MODEL_FOLDER, train, train_job


def make(plan: StagePlan, ctx: RunContext, out: Path, *, model: Path) -> Mapping[str, Any]:
    """Fine-tune `model` on the stage's rows; the trainer's info."""
    assert isinstance(plan.spec, DepthStage)
    job = train_job(ctx, plan, model=model, spec=sft_of(plan.spec), out=out / MODEL_FOLDER)
    return train(ctx, plan, "pipeline.train.sft:train", (job, write_rows(ctx, plan, model=model)))


def sft_of(spec: DepthStage) -> SftStage:
    """The part as a stage of its own."""
    settings = spec.random_depth or RandomDepthSft()
    return SftStage(
        kind="sft",
        init=spec.init,
        rows=spec.rows or [],
        random_depths=RandomDepths(high=spec.max_depth, segment=settings.segment),
        **settings.model_dump(exclude={"segment"}),
    )
