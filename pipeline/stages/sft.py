"""Supervised fine-tuning: R1's cold start and its second SFT, both from the base."""

from pipeline.plan import StagePlan
from pipeline.stages.context import Output, RunContext
from pipeline.stages.rows import write_rows
from pipeline.stages.support import model_of, named, train, train_job


def run(plan: StagePlan, ctx: RunContext) -> Output:
    """Fine-tune `init` on `rows`."""
    (init,) = named(plan, "init")
    model = model_of(ctx, init.name)
    rows = write_rows(ctx, plan, model=model)
    job = train_job(ctx, plan, model=model)
    return Output(kind="checkpoint", info=train(ctx, plan, "pipeline.train.sft:train", (job, rows)))
