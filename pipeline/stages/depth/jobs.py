"""Jobs on the frozen model, for `pipeline.train.depth` in a trainer process."""

from pathlib import Path

from pipeline.plan import StagePlan
from pipeline.recipe import DepthStage
from pipeline.stages.context import RunContext
from pipeline.train.depth.job import HeadJob


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
        threads=ctx.plan.recipe.hardware.threads_per_rank,
        device=ctx.plan.device,
        max_depth=spec.max_depth,
        prompt_depth=spec.prompt_depth,
        segment=spec.segment,
        batch_rows=spec.batch_rows,
        dtype=ctx.plan.recipe.model.dtype,
    )
