"""Sampling many prompts in chunks: shown, stoppable, and resumed from what is on disk."""

import time
from collections.abc import Callable, Iterator, Sequence

from pipeline.cluster import Serving
from pipeline.generate.groups import Group, unscored_share
from pipeline.generate.journal import Journal, StepRollouts
from pipeline.generate.rollouts import RolloutError, Sampling
from pipeline.generate.steps import step_metrics
from pipeline.plan import StagePlan
from pipeline.records import Prompt
from pipeline.stages.context import RunContext
from pipeline.stages.support import check_stop

CHUNK_COMPLETIONS = 1000
UNSCORED_LIMIT = 0.01  # share of a chunk that the rewards may fail to score


def sample_in_chunks(
    ctx: RunContext,
    plan: StagePlan,
    serve: Callable[[], Serving],
    prompts: Sequence[Prompt],
    *,
    source: str,
    sampling: Sampling,
    seed: int,
    journal: Journal,
) -> Iterator[Group]:
    """Scored groups of all prompts, in order. Finished chunks are read from the journal.

    `serve` is called only when there is something left to generate. Raises RolloutError when more
    than 1 % of a chunk could not be scored; it is not journaled, so a rerun makes it anew.
    """
    size = max(1, CHUNK_COMPLETIONS // sampling.samples)
    starts = range(0, len(prompts), size)
    began = time.monotonic()
    serving: Serving | None = None
    for number, start in enumerate(starts):
        check_stop(ctx, plan)
        chunk = journal.read(number)
        if chunk is None:
            serving = serving or serve()
            chunk = _sampled(serving, prompts[start : start + size], source, sampling, seed)
            journal.write(number, chunk)
        left = (time.monotonic() - began) / (number + 1) * (len(starts) - number - 1)
        row = {"step": number + 1, "steps": len(starts), "seconds_left": left}
        ctx.console.metrics(plan.name, row | dict(chunk.metrics))
        yield from chunk.groups


def _sampled(
    serving: Serving, prompts: Sequence[Prompt], source: str, sampling: Sampling, seed: int
) -> StepRollouts:
    began = time.monotonic()
    groups = serving.sample(prompts, source=source, sampling=sampling, seed=seed)
    share = unscored_share(groups)
    if share > UNSCORED_LIMIT:
        raise RolloutError(
            f"{share:.1%} of the samples could not be scored (limit {UNSCORED_LIMIT:.1%}); "
            "the rewards failed, not the model"
        )
    return StepRollouts(
        groups=groups, metrics=step_metrics(groups, seconds=time.monotonic() - began)
    )
