"""GRPO steps on a cluster, event by event (simpy): engines, verifiers, trainers.

    sync ─ engines: every running sequence a token a step ─ a sequence ends ─ verifiers ─┐
    trainers: the step's tokens, when all of it is verified ◄───────────────────────────┘
    staleness 1: the next step's sequences begin with this step's training, not after it

Lengths are log-normal, cut at `max_tokens`, and follow from the seed. Groups are not replaced, and
failures are `pipeline.plan.simulate.failures`'.
"""

import heapq
import math
import random
from collections.abc import Generator, Sequence
from dataclasses import dataclass, field
from statistics import mean
from typing import Any, Literal

import simpy

from pipeline.plan.simulate.costs import Costs
from pipeline.recipe.stage_work import prompt_reads

SIGMA = 0.8  # of log-normal lengths, as those of reasoning are spread (tests/bench/README.md)
Bottleneck = Literal["generation", "longest sequences", "verification", "training"]


@dataclass(frozen=True, kw_only=True)
class Layout:
    """Processes, and the batch that they share."""

    engines: int
    ranks: int
    verifiers: int
    max_sequences: int  # of an engine
    prompts: int  # of a step
    samples: int
    prompt_tokens: float
    mean_tokens: float  # of a completion, before `max_tokens` cuts
    max_tokens: int
    sigma: float = SIGMA


@dataclass(frozen=True, kw_only=True)
class Step:
    """What one step took, in seconds, and what of it processes worked."""

    seconds: float  # from the step's begin to the next one's
    generating: float  # until the last sequence ended
    verifying: float  # after that, until the last verdict
    training: float
    engine_busy: float  # engine-seconds with a sequence running
    longest: float  # seconds of `generating` in which less than half of the engines worked
    tokens: float


@dataclass(frozen=True, kw_only=True)
class Course:
    """Steps of one layout at one staleness."""

    steps: tuple[Step, ...]
    layout: Layout
    staleness: int

    @property
    def steady(self) -> tuple[Step, ...]:
        """The steps without first and last, which have less to overlap with."""
        return self.steps[1:-1] or self.steps

    @property
    def step_s(self) -> float:
        return mean(step.seconds for step in self.steady)

    @property
    def training_s(self) -> float:
        return mean(step.training for step in self.steady)

    @property
    def engine_share(self) -> float:
        """Share of the engines' time with a sequence running."""
        busy = mean(step.engine_busy for step in self.steady)
        return min(busy / (self.layout.engines * self.step_s), 1.0)

    @property
    def trainer_share(self) -> float:
        """Share of the trainers' time that they compute."""
        return min(mean(s.training for s in self.steady) / self.step_s, 1.0)

    @property
    def bottleneck(self) -> Bottleneck:
        """What a step waits for most."""
        steps = self.steady
        parts: dict[Bottleneck, float] = {
            "generation": mean(step.generating - step.longest for step in steps),
            "longest sequences": mean(step.longest for step in steps),
            "verification": mean(step.verifying for step in steps),
            "training": mean(step.training for step in steps),
        }
        sampling = sum(parts.values()) - parts["training"]
        if self.staleness and parts["training"] >= sampling:
            return "training"
        if self.staleness:
            parts["training"] = 0.0
        return max(parts, key=lambda name: parts[name])


def lengths_of(layout: Layout, *, seed: int, step: int) -> list[int]:
    """Tokens of a step's completions; all the mean where there is no spread.

    The log-normal's own mean is `mean_tokens`: exp(mu + sigma^2 / 2).
    """
    count = layout.prompts * layout.samples
    if not layout.sigma:
        return [min(round(layout.mean_tokens), layout.max_tokens)] * count
    rng = random.Random(f"{seed}/{step}")
    mu = math.log(layout.mean_tokens) - layout.sigma**2 / 2
    drawn = (round(rng.lognormvariate(mu, layout.sigma)) for _ in range(count))
    return [min(max(tokens, 1), layout.max_tokens) for tokens in drawn]


@dataclass
class _Sampling:
    """What engines and verifiers tell of one step's sampling."""

    begun: float
    engine_ends: list[float] = field(default_factory=list)
    sequence_ends: list[float] = field(default_factory=list)
    last_end: float = 0.0
    last_verdict: float = 0.0
    busy: float = 0.0


def simulated(layout: Layout, costs: Costs, *, staleness: int, steps: int, seed: int) -> Course:
    """So many steps, one after the other, or with `staleness` 1 sampled one step ahead: three or
    more tell a steady one."""
    env = simpy.Environment()
    rows: list[Step] = []
    env.process(_course(env, layout, costs, staleness, steps, seed, rows))
    env.run()
    return Course(steps=tuple(rows), layout=layout, staleness=staleness)


def _course(
    env: simpy.Environment,
    layout: Layout,
    costs: Costs,
    staleness: int,
    steps: int,
    seed: int,
    rows: list[Step],
) -> Generator[Any, Any, None]:
    """The trainers' loop, which begins each step's sampling."""

    def begin(step: int) -> tuple[_Sampling, Any, list[int]]:
        lengths = lengths_of(layout, seed=seed, step=step)
        sampling = _Sampling(begun=env.now)
        return (
            sampling,
            env.process(_sampled(env, layout, costs, lengths, sampling)),
            lengths,
        )

    yield env.timeout(costs.sync_s)
    ahead = begin(0)
    began = 0.0
    for step in range(steps):
        sampling, done, lengths = ahead
        yield done
        if staleness and step + 1 < steps:
            ahead = begin(step + 1)
        training = costs.train_token_s * _largest_share(lengths, layout)
        yield env.timeout(training)
        last = step + 1 == steps
        if staleness and not last:
            yield ahead[1]  # weights go to engines that have nothing left to sample
        yield env.timeout(0.0 if last else costs.sync_s)
        if not staleness and not last:
            ahead = begin(step + 1)
        rows.append(_row(sampling, lengths, layout, training, env.now - began))
        began = env.now


def _largest_share(lengths: Sequence[int], layout: Layout) -> float:
    """Tokens of the rank that has most, prompts once for their samples: ranks take slices of
    groups."""
    size = -(-len(lengths) // layout.ranks)
    prompts = layout.prompt_tokens / layout.samples
    slices = [lengths[at : at + size] for at in range(0, len(lengths), size)]
    return max(sum(part) + prompts * len(part) for part in slices)


def _sampled(
    env: simpy.Environment,
    layout: Layout,
    costs: Costs,
    lengths: Sequence[int],
    sampling: _Sampling,
) -> Generator[Any, Any, None]:
    """One step's sequences on all engines; ends with the last verdict."""
    engines = [
        env.process(_engine(env, layout, costs, part, sampling)) for part in dealt(lengths, layout)
    ]
    yield simpy.AllOf(env, engines)
    sampling.last_end = env.now
    sampling.last_verdict = last_verdict(
        sampling.sequence_ends, workers=layout.verifiers, each_s=costs.verify_s
    )
    yield env.timeout(max(sampling.last_verdict - env.now, 0.0))


def dealt(lengths: Sequence[int], layout: Layout) -> list[list[int]]:
    """Whole groups to engines in turn, as the service deals them; samples where groups are few."""
    size = layout.samples if layout.prompts >= layout.engines else 1
    parts = [list(lengths[at : at + size]) for at in range(0, len(lengths), size)]
    return [
        [tokens for part in parts[engine :: layout.engines] for tokens in part]
        for engine in range(layout.engines)
    ]


def _engine(
    env: simpy.Environment,
    layout: Layout,
    costs: Costs,
    lengths: Sequence[int],
    sampling: _Sampling,
) -> Generator[Any, Any, None]:
    """Prompts are read, then all running sequences go on in step; an ended one makes room."""
    if not lengths:
        sampling.engine_ends.append(env.now)
        return
    begun = env.now
    each = min(layout.samples, len(lengths))
    reads = prompt_reads(layout.prompt_tokens, samples=each) / each * len(lengths)
    yield env.timeout(reads * costs.prefill_token_s)
    waiting = list(reversed(lengths))
    running: list[int] = []  # tokens of the engine's count at which each ends
    count = 0
    while waiting or running:
        while waiting and len(running) < layout.max_sequences:
            heapq.heappush(running, count + waiting.pop())
        tokens = running[0] - count
        yield env.timeout(tokens * (costs.step_s + costs.token_s * len(running)))
        count = running[0]
        while running and running[0] == count:
            heapq.heappop(running)
            sampling.sequence_ends.append(env.now)
    sampling.engine_ends.append(env.now)
    sampling.busy += env.now - begun


def last_verdict(ends: Sequence[float], *, workers: int, each_s: float) -> float:
    """When the last of some sequences is verified, each begun as it ends where a worker is free.

    >>> last_verdict([0.0, 0.0, 0.0, 10.0], workers=2, each_s=3.0)
    13.0
    """
    free = [0.0] * workers
    heapq.heapify(free)
    for end in sorted(ends):
        heapq.heapreplace(free, max(end, free[0]) + each_s)
    return max(free) if ends else 0.0


def _row(
    sampling: _Sampling, lengths: Sequence[int], layout: Layout, training: float, seconds: float
) -> Step:
    ends = sorted(sampling.engine_ends)
    half = ends[len(ends) // 2]
    return Step(
        seconds=seconds,
        generating=sampling.last_end - sampling.begun,
        verifying=sampling.last_verdict - sampling.last_end,
        training=training,
        engine_busy=sampling.busy,
        longest=sampling.last_end - half,
        tokens=float(sum(lengths)),
    )
