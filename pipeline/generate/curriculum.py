"""Prompts by what they can teach: those that nearly always or never succeed are drawn less. Pure.

A prompt's pass rate is the mean of a Beta posterior over the samples of the steps before, from a
uniform prior, each step's counts fading by `DECAY` a step since the policy moves. It is a function
of the journal alone, so that a resumed run draws the same prompts. A prompt weighs what its group's
variance is expected to be, p (1 - p), since a group without variance teaches nothing (DAPO, arXiv
2503.14476, section 3.2); no prompt weighs nothing, as estimates may be wrong.
"""

import heapq
import math
import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from pipeline.generate.groups import Group
from pipeline.generate.schedule import derived_seed
from pipeline.records import Prompt

DECAY = 0.95  # of a step's counts, per step; ours
LEAST_WEIGHT = 0.1  # of a prompt; one that was never sampled weighs 1; ours
PASSED = 1.0  # value of the reward that says that an answer is right


@dataclass(frozen=True)
class Counts:
    """A prompt's samples in one step."""

    passed: int
    scored: int


def pass_counts(groups: Sequence[Group], *, reward: str) -> dict[str, Counts]:
    """By prompt id, over all groups of a step; unscored samples are left out."""
    counts: dict[str, Counts] = {}
    for group in groups:
        values = [v for s in group.samples if (v := s.components[reward]) is not None]
        before = counts.get(group.prompt_id, Counts(0, 0))
        passed = before.passed + sum(value >= PASSED for value in values)
        counts[group.prompt_id] = Counts(passed, before.scored + len(values))
    return counts


class PassHistory:
    """What steps say of their prompts, added in order; a step costs what it has, however many
    there were before.

    >>> history = PassHistory()
    >>> history.add({"a": Counts(8, 8)})
    >>> history.rates()
    {'a': 0.9}
    """

    def __init__(self) -> None:
        self.steps = 0
        self._sums: dict[str, tuple[int, float, float]] = {}  # last step, passed, scored: faded

    def add(self, step: Mapping[str, Counts]) -> None:
        """The counts of the next step."""
        for name, counts in step.items():
            passed, scored = self._faded(name)
            self._sums[name] = (self.steps, passed + counts.passed, scored + counts.scored)
        self.steps += 1

    def rates(self) -> dict[str, float]:
        """Posterior means after these steps; prompts that none of them had are left out."""
        rates = {}
        for name, (last, passed, scored) in self._sums.items():
            fading = DECAY ** (self.steps - 1 - last)
            rates[name] = (1 + passed * fading) / (2 + scored * fading)
        return rates

    def _faded(self, name: str) -> tuple[float, float]:
        last, passed, scored = self._sums.get(name, (self.steps, 0.0, 0.0))
        fading = DECAY ** (self.steps - last)
        return passed * fading, scored * fading


def weight(rate: float) -> float:
    """Of a prompt with this pass rate: 1 at a half.

    >>> weight(0.5), weight(1.0)
    (1.0, 0.1)
    """
    return max(4 * rate * (1 - rate), LEAST_WEIGHT)


def weighted_prompts(
    prompts: Sequence[Prompt],
    rates: Mapping[str, float],
    *,
    seed: int,
    step: int,
    attempt: int,
    count: int,
    used: frozenset[str],
) -> list[Prompt]:
    """`count` different prompts that are not in `used`, fewer where there are fewer.

    Without replacement: the largest u ** (1 / weight), u uniform (Efraimidis and Spirakis,
    Information Processing Letters 97, 2006).
    """
    rng = random.Random(derived_seed(seed, "curriculum", step, attempt))
    keys = [math.log(1.0 - rng.random()) / weight(rates.get(p.id, 0.5)) for p in prompts]
    free = (i for i, prompt in enumerate(prompts) if prompt.id not in used)
    return [prompts[i] for i in heapq.nlargest(count, free, key=keys.__getitem__)]
