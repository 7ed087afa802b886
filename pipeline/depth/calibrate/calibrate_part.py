"""Part 7: budgets to prices on real rollouts, into the model's configuration."""

import json
import math
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from pipeline.depth.bench import Bench
from pipeline.depth.calibrate.price_table import PricePoint, calibrate, reach
from pipeline.depth.compare.depth_report import Calibration
from pipeline.depth.members import policy_request
from pipeline.measure.placement import falling
from pipeline.recipe.depth_parts import CALIBRATED_PRICES
from pipeline.recipe.depth_stage import DepthStage

DEFAULT_EFFORT = "medium"

EFFORTS = {"low": 0.1, "medium": 0.5, "high": 0.9}
"""Where a recipe names no budgets: shares of what the policy's prices reach."""

TOLERANCE = 0.02  # share of the full depth within which a budget is met; ours


def make(bench: Bench, _: Path, *, model: Path) -> Mapping[str, Any]:
    """Measure over the trained prices and until every named budget has its own; the document of a
    `Calibration`."""
    spec = bench.spec
    prompts = bench.prompts(spec.calibration, spec.calibrate.size)

    def measure(log_price: float) -> PricePoint:
        answers = bench.measure(
            model,
            prompts,
            policy_request(spec, log_price=log_price),
            entry=spec.calibration,
            samples=1,
            area="calibrate",
        ).answers
        return PricePoint(
            log_price=log_price,
            share=answers.mean_depth / spec.max_depth,
            accuracy=answers.accuracy,
            flops=float(answers.flops.mean()),
        )

    low, high = (math.log(price) for price in spec.rl.price)
    points = calibrate(
        spec.budgets or [],
        measure,
        low=low,
        high=high,
        points=CALIBRATED_PRICES,
        tolerance=TOLERANCE,
        rounds=spec.calibrate.rounds,
    )
    least, most = reach(points)
    for budget in spec.budgets or []:
        if not least <= budget <= most:
            bench.ctx.console.log(
                f"{bench.plan.name}: budget {budget:g} is out of reach: the policy's prices spend "
                f"{least:.3f} to {most:.3f} of the full depth; the nearer end serves it"
            )
    return asdict(configuration(spec, points))


def configuration(spec: DepthStage, points: Sequence[PricePoint]) -> Calibration:
    """The keys of `config.json` that `pipeline.recurrent.effort` reads.

    A row for every price whose share stands out, at the share that the smoothed curve has.
    """
    by_price = {point.log_price: point for point in points}
    prices, shares = falling({price: point.share for price, point in by_price.items()})
    rows: list[dict[str, float]] = []
    for price, share in zip(prices.tolist(), shares.tolist(), strict=True):
        if not rows or share < rows[-1]["budget"]:
            rows.append(_row(spec, share, by_price[price]))
    least, most = reach(points)
    budgets = spec.budgets or [least + part * (most - least) for part in EFFORTS.values()]
    return Calibration(
        depth_policy={
            "depth": spec.max_depth,
            "prompt_depth": spec.prompt_depth,
            "segment": spec.segment,
            "sampled": False,
        },
        depth_calibration=rows[::-1],
        efforts={"low": budgets[0], "medium": budgets[len(budgets) // 2], "high": budgets[-1]},
    )


def write_model(source: Path, out: Path, keys: Calibration) -> None:
    """Copy a model folder with these keys in its configuration, and its default effort."""
    shutil.copytree(source, out)
    for name, more in (
        ("config.json", asdict(keys)),
        ("generation_config.json", {"effort": DEFAULT_EFFORT}),
    ):
        settings = json.loads((out / name).read_text())
        (out / name).write_text(json.dumps({**settings, **more}, indent=2) + "\n")


def _row(spec: DepthStage, budget: float, point: PricePoint) -> dict[str, float]:
    return {
        "budget": budget,
        "log_price": point.log_price,
        "mean_depth": point.share * spec.max_depth,
        "accuracy": point.accuracy,
        "flops": point.flops,
    }
