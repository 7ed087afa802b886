"""Does a budget spend what it says, also where nothing was measured for it? Pure."""

import itertools
from collections.abc import Sequence

from pipeline.depth.compare.depth_report import Rows, Slider


def slider(budgets: Sequence[float], spent: Sequence[float], *, table: Rows) -> Slider:
    """What budgets spent, all in shares of the full depth, beside the calibration's rows.

    Misses are a share of the range of budgets that can be asked for.
    """
    cheapest = min(row["mean_depth"] for row in table)
    if not budgets:
        return Slider(cheapest_depth=cheapest)
    calibrated = [row["budget"] for row in table]
    reach = max(calibrated) - min(calibrated)
    return Slider(
        budget_error=max(abs(s - b) / reach for b, s in zip(budgets, spent, strict=True)),
        cheapest_depth=cheapest,
        monotone=all(a <= b for a, b in itertools.pairwise(spent)),
        budgets=[{"budget": b, "spent": s} for b, s in zip(budgets, spent, strict=True)],
    )


def unseen_budgets(table: Sequence[float], *, count: int) -> list[float]:
    """`count` budgets over the range of a calibration's, at the middles of equal parts of it."""
    low, high = min(table), max(table)
    return [low + (high - low) * (part + 0.5) / count for part in range(count)]
