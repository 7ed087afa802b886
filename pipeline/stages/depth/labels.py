"""Parts 3 and 4: labels of full-depth completions, and the heads that learn from them."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pipeline.records import write_scored
from pipeline.stages.depth.jobs import head_job
from pipeline.stages.depth.measuring import Bench
from pipeline.stages.depth.members import fixed_request
from pipeline.stages.support import MODEL_FOLDER

ROLLOUTS = "rollouts.parquet"
LOSSES = "losses.safetensors"  # `pipeline.train.depth.replay.LOSSES`, which loads torch
CRITIC = "pipeline.train.depth.critic"


def label(bench: Bench, out: Path, *, model: Path) -> Mapping[str, Any]:
    """Completions of the deepest model, and every token's loss at every depth."""
    spec = bench.spec
    measured = bench.measure(
        model,
        bench.prompts(spec.prompts, spec.warm_start.size),
        fixed_request(spec, spec.max_depth),
        entry=spec.prompts,
        samples=spec.warm_start.samples_per_prompt,
        area="labels",
    )
    write_scored([s for g in measured.groups for s in g.samples], out / ROLLOUTS)
    job = head_job(bench.plan, bench.ctx, model=model, out=out)
    bench.ctx.cluster.call("pipeline.train.depth.replay:losses_by_depth", job, out / ROLLOUTS)
    return measured.summary()


def gate(bench: Bench, out: Path, *, model: Path, labels: Path) -> Mapping[str, Any]:
    """The exit gate of the Q-exit baseline, in a copy of the model."""
    job = head_job(bench.plan, bench.ctx, model=model, out=out / MODEL_FOLDER)
    return bench.ctx.cluster.call(
        "pipeline.train.depth.gate:train",
        job,
        labels / ROLLOUTS,
        labels / LOSSES,
        steps=bench.spec.warm_start.steps,
        lr=bench.spec.warm_start.lr,
    )


def halting(
    bench: Bench, out: Path, *, model: Path, labels: Path, gain: float, bias: float
) -> Mapping[str, Any]:
    """A halting head from labels, in a copy of the model. `gain`: accuracy, full depth over 1."""
    spec = bench.spec
    job = head_job(bench.plan, bench.ctx, model=model, out=out / MODEL_FOLDER)
    return bench.ctx.cluster.call(
        "pipeline.train.depth.warm_start:train",
        job,
        labels / ROLLOUTS,
        labels / LOSSES,
        prices=spec.rl.price,
        steps=spec.warm_start.steps,
        lr=spec.warm_start.lr,
        bias=bias,
        width=spec.halting_width,
        labels=spec.warm_start.labels,
        accuracy_gain=gain,
    )


def critic(bench: Bench, out: Path, *, model: Path, table: Path) -> Mapping[str, Any]:
    """The critic of accuracy by depth, from the headroom's table."""
    job = head_job(bench.plan, bench.ctx, model=model, out=out)
    return bench.ctx.cluster.call(
        f"{CRITIC}:train",
        job,
        table,
        steps=bench.spec.warm_start.steps,
        lr=bench.spec.warm_start.lr,
    )
