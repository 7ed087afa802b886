"""Jobs on the frozen model, for the trainer's halves of this folder."""

from pathlib import Path

from pipeline.depth.trainer_jobs import HeadJob
from pipeline.plan.stage_plan import StagePlan
from pipeline.recipe.depth_stage import DepthStage
from pipeline.stages.context import RunContext


def head_job(
    plan: StagePlan, ctx: RunContext, *, model: Path, out: Path, seed: int | None = None
) -> HeadJob:
    """The job of reading `model` and writing to `out`; `seed` defaults to the stage's."""
    spec = plan.spec
    assert isinstance(spec, DepthStage)
    return HeadJob(
        model=model,
        out=out,
        seed=plan.seed if seed is None else seed,
        threads=ctx.plan.recipe.hardware.rank_threads,
        device=ctx.plan.device,
        max_depth=spec.max_depth,
        prompt_depth=spec.prompt_depth,
        segment=spec.segment,
        batch_rows=spec.batch_rows,
        dtype=ctx.plan.recipe.model.dtype,
    )
