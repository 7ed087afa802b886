"""Part 2: accuracy of every problem at every depth, and whether a policy has anything to gain."""

from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from pipeline.depth.bench import Bench
from pipeline.depth.members import fixed_request
from pipeline.measure.headroom import headroom

TABLE = "table.parquet"  # prompt_tokens, accuracy [_R]: what the critic learns from


def make(bench: Bench, out: Path, *, model: Path) -> Mapping[str, Any]:
    """Roll out at fixed depths 1 to the deepest; the verdict and the table."""
    spec = bench.spec
    prompts = bench.prompts(spec.prompts, spec.headroom.size)
    measured = [
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
    correct = np.stack([m.answers.correct for m in measured], axis=1)  # [_P, _R, _N]
    found = headroom(
        correct, [float(m.answers.flops.mean()) for m in measured], seed=bench.plan.seed
    )
    tokens = [list(g.samples[0].rollout.prompt_tokens) for g in measured[0].groups]
    table = {"prompt_tokens": tokens, "accuracy": correct.mean(axis=2).tolist()}
    pq.write_table(pa.table(table), out / TABLE)
    bench.ctx.console.log(f"{bench.plan.name}: headroom: {found.reason}")
    return {
        **asdict(found),
        "by_depth": [m.summary() for m in measured],
        "ref_tokens": float(measured[-1].answers.tokens.mean()),
    }
