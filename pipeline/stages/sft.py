"""Supervised fine-tuning: R1's cold start and its second SFT, both from the base."""

from functools import partial

from pipeline.measure.drops import drop_rows
from pipeline.plan.stage_plan import StagePlan
from pipeline.recipe.sft_stage import SftStage
from pipeline.stages.context import Output, RunContext
from pipeline.stages.drop_log import too_long
from pipeline.stages.support import model_of, named, train, train_job
from pipeline.stages.training_rows import write_rows
from pipeline.train import training_calls


def run(plan: StagePlan, ctx: RunContext) -> Output:
    """Fine-tune `init` on `rows`."""
    spec = plan.spec
    assert isinstance(spec, SftStage)
    (init,) = named(plan, "init")
    model = model_of(ctx, init.name)
    rows = write_rows(ctx, plan, model=model)
    job = train_job(ctx, plan, model=model)
    info = train(ctx, plan, partial(training_calls.sft, job, rows))
    drop = too_long(info, "rows", tokens=spec.max_tokens, key=f"stages.{plan.name}.max_tokens")
    return Output(kind="checkpoint", info={**info, "drops": drop_rows([drop])})
