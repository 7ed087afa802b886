"""Distillation into a smaller model: SFT on harvested rows as R1 did, or on-policy."""

from dataclasses import replace

from pipeline.plan import StagePlan, model_found
from pipeline.recipe import DistillStage
from pipeline.stages.context import Output, RunContext
from pipeline.stages.rows import write_rows
from pipeline.stages.support import model_of, train, train_job


def run(plan: StagePlan, ctx: RunContext) -> Output:
    """Train the student on the teacher's rows, or on its own with the teacher's distribution."""
    spec = plan.spec
    assert isinstance(spec, DistillStage)
    student = ctx.work / "student"
    if not (student / "config.json").exists():
        source = model_found(spec.student)
        ctx.cluster.call("pipeline.train.base_model:materialize", source, student, seed=plan.seed)
    rows = write_rows(ctx, plan, model=student)
    job = replace(train_job(ctx, plan, model=student), dtype=spec.student.dtype)
    if spec.mode == "rows":
        info = train(ctx, plan, "pipeline.train.distill:train", (job, rows))
    else:
        teacher = model_of(ctx, spec.teacher)
        target = "pipeline.train.distill:train_on_policy"
        info = train(ctx, plan, target, (job, rows, teacher))
    return Output(kind="checkpoint", info=info)
