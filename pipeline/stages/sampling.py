"""Sampling many prompts in chunks: shown, stoppable, and resumed from what is on disk."""

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, replace

from pipeline.artifacts import fingerprint
from pipeline.generate.groups import Group
from pipeline.generate.journal import Journal, StepRollouts
from pipeline.generate.service import Depths, Sampling
from pipeline.generate.steps import step_metrics
from pipeline.generate.unscored import check_scored
from pipeline.plan.stage_plan import StagePlan
from pipeline.records import Prompt, group_names
from pipeline.stages.context import RunContext, Serving
from pipeline.stages.support import check_stop

CHUNK_COMPLETIONS = 1000


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
    depths: Depths | None = None,
    shown: bool = True,
) -> Iterator[Group]:
    """Scored groups of all prompts, in order. Finished chunks are read from the journal.

    Rollouts at another choice of `depths` are kept in a journal of their own beside the others.
    `shown` says whether the console gets a row for every chunk.
    `serve` is called only when there is something left to generate. Raises TooManyUnscored when
    over 1 % of a chunk could not be scored; it is not journaled, so a rerun makes it anew.
    """
    size = max(1, CHUNK_COMPLETIONS // sampling.samples)
    starts = range(0, len(prompts), size)
    began = time.monotonic()
    serving: Serving | None = None
    if depths is not None:
        journal = replace(journal, folder=journal.folder / f"depths-{depths_key(depths)}")
    for number, start in enumerate(starts):
        check_stop(ctx, plan)
        chunk = journal.read(number)
        if chunk is None:
            if serving is None and number:
                ctx.console.log(f"{plan.name}: resumed at part {number + 1} of {len(starts)}")
            serving = serving or serve()
            part = prompts[start : start + size]
            chunk = _sampled(serving, part, source, sampling, seed, depths)
            journal.write(number, chunk)
        if shown:
            left = (time.monotonic() - began) / (number + 1) * (len(starts) - number - 1)
            row = {"step": number + 1, "steps": len(starts), "seconds_left": left}
            ctx.console.metrics(plan.name, row | dict(chunk.metrics))
        yield from chunk.groups


def depths_key(depths: Depths) -> str:
    """A short name of a choice of depths: equal choices have equal names."""
    asked = {name: [asdict(request) for request in depths[name]] for name in sorted(depths)}
    return fingerprint("depths", asked)[:16]


def _sampled(
    serving: Serving,
    prompts: Sequence[Prompt],
    source: str,
    sampling: Sampling,
    seed: int,
    depths: Depths | None,
) -> StepRollouts:
    began = time.monotonic()
    asked = None if depths is None else {name: depths[name] for name in group_names(prompts)}
    groups = serving.sample(prompts, source=source, sampling=sampling, seed=seed, depths=asked)
    check_scored(groups)
    return StepRollouts(
        groups=groups, metrics=step_metrics(groups, seconds=time.monotonic() - began)
    )
