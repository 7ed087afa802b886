"""Part 7: budgets to prices on real rollouts, into the model's configuration."""

import json
import math
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from pipeline.depth.bench import Bench
from pipeline.depth.calibrate.price_table import Measured, calibrate, falling, reach
from pipeline.depth.members import policy_request
from pipeline.recipe.depth_stage import DepthStage

DEFAULT_EFFORT = "medium"

EFFORTS = {"low": 0.1, "medium": 0.5, "high": 0.9}
"""Where a recipe names no budgets: shares of what the policy's prices reach."""


def make(bench: Bench, *, model: Path, area: str) -> Mapping[str, Any]:
    """Measure over the trained prices and until every named budget has its own; what goes into
    the configuration."""
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
    seen = calibrate(
        spec.budgets or [],
        measure,
        low=low,
        high=high,
        points=spec.calibrate.points,
        tolerance=spec.calibrate.tolerance,
        rounds=spec.calibrate.rounds,
    )
    least, most = reach(seen)
    for budget in spec.budgets or []:
        if not least <= budget <= most:
            bench.ctx.console.log(
                f"{bench.plan.name}: budget {budget:g} is out of reach: the policy's prices spend "
                f"{least:.3f} to {most:.3f} of the full depth; the nearer end serves it"
            )
    return configuration(spec, seen)


def configuration(spec: DepthStage, seen: Sequence[Measured]) -> dict[str, Any]:
    """The keys of `config.json` that `pipeline.recurrent.effort` reads.

    A row for every measurement whose share stands out, at the share that the smoothed curve has.
    """
    prices, shares = falling(seen)
    by_price = {one.log_price: one for one in seen}
    rows: list[dict[str, float]] = []
    for price, share in zip(prices.tolist(), shares.tolist(), strict=True):
        if not rows or share < rows[-1]["budget"]:
            rows.append(_row(spec, share, by_price[price]))
    least, most = reach(seen)
    budgets = spec.budgets or [least + part * (most - least) for part in EFFORTS.values()]
    return {
        "depth_policy": {
            "depth": spec.max_depth,
            "prompt_depth": spec.prompt_depth,
            "segment": spec.segment,
            "sampled": False,
        },
        "depth_calibration": rows[::-1],
        "efforts": {"low": budgets[0], "medium": budgets[len(budgets) // 2], "high": budgets[-1]},
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
