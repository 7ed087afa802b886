"""Parts 3 and 4: labels of full-depth completions, and the heads that learn from them."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pipeline.depth.bench import Bench
from pipeline.depth.head_job import head_job
from pipeline.depth.members import fixed_request
from pipeline.records import write_scored
from pipeline.stages.support import MODEL_FOLDER

ROLLOUTS = "rollouts.parquet"
LOSSES = "losses.safetensors"  # `pipeline.depth.model.replay.LOSSES`, which loads torch
LATER = "later.safetensors"  # `pipeline.depth.labels.probes.LATER`
CRITIC = "pipeline.depth.labels.critic"


def label(bench: Bench, out: Path, *, model: Path) -> Mapping[str, Any]:
    """Completions of the deepest model, and what every depth of a token does to the loss."""
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
    bench.ctx.cluster.call("pipeline.depth.model.replay:losses_by_depth", job, out / ROLLOUTS)
    if spec.warm_start.labels == "later":
        bench.ctx.cluster.call(
            "pipeline.depth.labels.probes:later_losses",
            job,
            out / ROLLOUTS,
            probes=spec.warm_start.probes,
        )
    return measured.summary()


def gate(bench: Bench, out: Path, *, model: Path, labels: Path) -> Mapping[str, Any]:
    """The exit gate of the Q-exit baseline, in a copy of the model."""
    job = head_job(bench.plan, bench.ctx, model=model, out=out / MODEL_FOLDER)
    return bench.ctx.cluster.call(
        "pipeline.depth.labels.gate:train",
        job,
        labels / ROLLOUTS,
        labels / LOSSES,
        steps=bench.spec.warm_start.steps,
        lr=bench.spec.warm_start.lr,
    )


def halting(
    bench: Bench,
    out: Path,
    *,
    model: Path,
    labels: Path,
    gain: float,
    bias: float,
    own: bool = False,
) -> Mapping[str, Any]:
    """A halting head from labels, in a copy of the model.

    Args:
        gain: accuracy at full depth over that at depth 1.
        own: of each token's own loss, whatever the recipe's labels are.
    """
    spec = bench.spec
    kind = "best" if own else spec.warm_start.labels
    job = head_job(bench.plan, bench.ctx, model=model, out=out / MODEL_FOLDER)
    return bench.ctx.cluster.call(
        "pipeline.depth.labels.warm_start:train",
        job,
        labels / ROLLOUTS,
        labels / LOSSES,
        prices=spec.rl.price,
        steps=spec.warm_start.steps,
        lr=spec.warm_start.lr,
        bias=bias,
        width=spec.halting_width,
        labels=kind,
        later=labels / LATER if kind == "later" else None,
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
