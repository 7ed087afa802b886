"""The price that a prompt's group is told at a step: a pure function. Loads no ML library."""

import math
import random

from pipeline.generate.schedule import derived_seed


def log_price(*, seed: int, step: int, group: str, low: float, high: float) -> float:
    """ln(lambda), uniform between ln(low) and ln(high).

    Raises ValueError unless 0 < low <= high.
    """
    if not 0 < low <= high:
        raise ValueError(f"price: [{low}, {high}] must be positive and rising")
    drawn = random.Random(derived_seed(seed, "price", step, group)).random()
    return math.log(low) + drawn * (math.log(high) - math.log(low))
