"""Distillation into a smaller model: SFT on harvested rows as R1 did, or on-policy."""

from dataclasses import replace
from functools import partial

from pipeline.measure.drops import drop_rows
from pipeline.models import model_calls
from pipeline.plan.model_origin import runs_own_code
from pipeline.plan.stage_plan import StagePlan
from pipeline.recipe.distill_stage import DistillStage
from pipeline.stages.context import Output, RunContext
from pipeline.stages.drop_log import too_long
from pipeline.stages.support import model_of, train, train_job
from pipeline.stages.training_rows import write_rows
from pipeline.train import training_calls


def run(plan: StagePlan, ctx: RunContext) -> Output:
    """Train the student on the teacher's rows, or on its own with the teacher's distribution."""
    spec = plan.spec
    assert isinstance(spec, DistillStage)
    student = ctx.work / "student"
    if not (student / "config.json").exists():
        source = spec.student
        ctx.cluster.call(model_calls.materialize, source, student, seed=plan.seed)
    rows = write_rows(ctx, plan, model=student)
    job = replace(train_job(ctx, plan, model=student), dtype=spec.student.dtype)
    if spec.mode == "rows":
        what, info = "rows", train(ctx, plan, partial(training_calls.distill, job, rows))
    else:
        teacher = model_of(ctx, spec.teacher)
        training = partial(
            training_calls.distill_on_policy,
            job,
            rows,
            teacher,
            teacher_code=runs_own_code(ctx.plan.recipe, spec.teacher),
        )
        what, info = "prompts", train(ctx, plan, training)
    drop = too_long(info, what, tokens=spec.max_tokens, key=f"stages.{plan.name}.max_tokens")
    return Output(kind="checkpoint", info={**info, "drops": drop_rows([drop])})
