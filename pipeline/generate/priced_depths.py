"""Depths of a policy that is told a price, one for each group of a step. Loads no ML library.

What a group is told is a function of (seed, step, group), so that a resumed step repeats it.
"""

import dataclasses
import math
import random
from collections.abc import Sequence
from dataclasses import dataclass

from pipeline.generate.schedule import derived_seed
from pipeline.generate.service import Depths
from pipeline.recurrent.request import DepthRequest


@dataclass(frozen=True, kw_only=True)
class PricedDepths:
    """How the completions of a step choose their depths, as plain data."""

    request: DepthRequest  # of every completion, but for its price
    low: float  # least lambda
    high: float  # greatest

    def requests(self, groups: Sequence[str], *, samples: int, seed: int, step: int) -> Depths:
        """One request for each sample of each group, all of a group at its price."""
        return {
            name: [dataclasses.replace(self.request, log_price=price)] * samples
            for name in groups
            for price in [log_price(seed=seed, step=step, group=name, low=self.low, high=self.high)]
        }


def log_price(*, seed: int, step: int, group: str, low: float, high: float) -> float:
    """ln(lambda), uniform between ln(low) and ln(high).

    Raises ValueError unless 0 < low <= high.
    """
    if not 0 < low <= high:
        raise ValueError(f"price: [{low}, {high}] must be positive and rising")
    drawn = random.Random(derived_seed(seed, "price", step, group)).random()
    return math.log(low) + drawn * (math.log(high) - math.log(low))
