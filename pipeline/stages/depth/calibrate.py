"""Part 7: budgets to prices on real rollouts, into the model's configuration."""

import json
import math
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from pipeline.recipe import DepthStage
from pipeline.stages.depth.calibration import Calibrated, Measured, calibrate
from pipeline.stages.depth.measuring import Bench
from pipeline.stages.depth.members import policy_request

MARGIN = 1.0
"""Nats beyond the trained prices on both sides that the search may use: the head is smooth."""

DEFAULT_EFFORT = "medium"


def make(bench: Bench, *, model: Path, area: str) -> Mapping[str, Any]:
    """Measure until every budget has its price; what goes into the configuration."""
    spec = bench.spec
    prompts = bench.prompts(spec.calibration, spec.calibrate.size)

    def measure(log_price: float) -> Measured:
        found = bench.measure(
            model,
            prompts,
            policy_request(spec, log_price=log_price),
            entry=spec.calibration,
            samples=1,
            area=area,
        ).answers
        return Measured(
            log_price=log_price,
            share=found.mean_depth / spec.max_depth,
            accuracy=found.accuracy,
            flops=float(found.flops.mean()),
        )

    low, high = (math.log(price) for price in spec.rl.price)
    chosen, seen = calibrate(
        spec.budgets,
        measure,
        low=low - MARGIN,
        high=high + MARGIN,
        tolerance=spec.calibrate.tolerance,
        rounds=spec.calibrate.rounds,
    )
    for one in chosen:
        if not one.met:
            bench.ctx.console.log(
                f"{bench.plan.name}: budget {one.budget:g} is out of reach; the nearest price "
                f"spends {one.found.share:.3f} of the full depth"
            )
    return {
        **configuration(spec, chosen, ends=(seen[0], seen[-1])),
        "met": [one.met for one in chosen],
    }


def configuration(
    spec: DepthStage, chosen: Sequence[Calibrated], *, ends: tuple[Measured, Measured]
) -> dict[str, Any]:
    """The keys of `config.json` that `pipeline.recurrent.effort` reads.

    The ends of the range of prices are rows too, where they widen it: at the shares they spent.
    """
    rows = [_row(spec, one.budget, one.found) for one in chosen]
    dear, cheap = ends[-1], ends[0]
    if dear.share < spec.budgets[0]:
        rows.insert(0, _row(spec, dear.share, dear))
    if cheap.share > spec.budgets[-1]:
        rows.append(_row(spec, cheap.share, cheap))
    middle = spec.budgets[len(spec.budgets) // 2]
    return {
        "depth_policy": {
            "depth": spec.max_depth,
            "prompt_depth": spec.prompt_depth,
            "segment": spec.segment,
            "sampled": False,
        },
        "depth_calibration": rows,
        "efforts": {"low": spec.budgets[0], "medium": middle, "high": spec.budgets[-1]},
    }


def write_model(source: Path, out: Path, keys: Mapping[str, Any]) -> None:
    """Copy a model folder with these keys in its configuration, and its default effort."""
    shutil.copytree(source, out)
    for name, more in (
        ("config.json", keys),
        ("generation_config.json", {"effort": DEFAULT_EFFORT}),
    ):
        settings = json.loads((out / name).read_text())
        (out / name).write_text(json.dumps({**settings, **more}, indent=2) + "\n")


def _row(spec: DepthStage, budget: float, found: Measured) -> dict[str, float]:
    return {
        "budget": budget,
        "log_price": found.log_price,
        "mean_depth": found.share * spec.max_depth,
        "accuracy": found.accuracy,
        "flops": found.flops,
    }
