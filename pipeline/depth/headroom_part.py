"""Part 2: accuracy of every problem at every depth, and whether a policy has anything to gain."""

import math
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from pipeline.depth.bench import Bench
from pipeline.depth.members import fixed_request
from pipeline.measure.accuracy import mean_scored
from pipeline.measure.headroom import headroom
from pipeline.records import write_scored

ROLLOUTS = "rollouts.parquet"  # all of them, each at one depth
TABLE = "table.parquet"  # prompt_tokens, accuracy [_R]: what the critic learns from


def make(bench: Bench, out: Path, *, model: Path) -> Mapping[str, Any]:
    """Roll out at fixed depths 1 to the deepest; the verdict and the table."""
    spec = bench.spec
    prompts = bench.prompts(spec.prompts, spec.headroom.size)
    by_depth = [
        bench.measure(
            model,
            prompts,
            fixed_request(spec, depth),
            entry=spec.prompts,
            samples=spec.headroom.samples_per_prompt,
            area="headroom",
        )
        for depth in range(1, spec.max_depth + 1)
    ]
    correct = np.stack([m.answers.correct for m in by_depth], axis=1)  # [_P, _R, _N]
    room = headroom(
        correct, [float(m.answers.flops.mean()) for m in by_depth], seed=bench.plan.seed
    )
    write_scored([s for m in by_depth for g in m.groups for s in g.samples], out / ROLLOUTS)
    tokens = [list(g.samples[0].rollout.prompt_tokens) for g in by_depth[0].groups]
    scored = [
        (prompt, accuracy)
        for prompt, accuracy in zip(tokens, mean_scored(correct, axis=2).tolist(), strict=True)
        if not any(map(math.isnan, accuracy))
    ]
    table = {"prompt_tokens": [p for p, _ in scored], "accuracy": [a for _, a in scored]}
    pq.write_table(pa.table(table), out / TABLE)
    bench.ctx.console.log(f"{bench.plan.name}: headroom: {room.reason}")
    return {
        **asdict(room),
        "by_depth": [m.summary() for m in by_depth],
        "ref_tokens": float(by_depth[-1].answers.tokens.mean()),
    }
