"""Part 3: full-depth completions, and what every depth of their tokens does to the loss."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pipeline.depth import depth_calls
from pipeline.depth.bench import Bench
from pipeline.depth.head_job import head_job
from pipeline.depth.members import fixed_request
from pipeline.records import write_scored

ROLLOUTS = "rollouts.parquet"
LOSSES = "losses.safetensors"  # `pipeline.depth.model.replay.LOSSES`, which loads torch
LATER = "later.safetensors"  # `pipeline.depth.labels.probes.LATER`


def make(bench: Bench, out: Path, *, model: Path) -> Mapping[str, Any]:
    """Fill `out` with the three files; the completions' summary."""
    spec = bench.spec
    measurement = bench.measure(
        model,
        bench.prompts(spec.prompts, spec.warm_start.size),
        fixed_request(spec, spec.max_depth),
        entry=spec.prompts,
        samples=1,
        area="labels",
    )
    write_scored([s for g in measurement.groups for s in g.samples], out / ROLLOUTS)
    job = head_job(bench.plan, bench.ctx, model=model, out=out)
    bench.call(depth_calls.losses_by_depth, job, out / ROLLOUTS)
    if spec.warm_start.labels == "later":
        bench.call(
            depth_calls.later_losses,
            job,
            out / ROLLOUTS,
            probes=spec.warm_start.probes,
        )
    return measurement.summary()
