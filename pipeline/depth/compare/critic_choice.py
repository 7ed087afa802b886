"""The depth of a request that the critic or the regression chooses, and what choosing costs."""

import functools
import json
import math
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
from safetensors import safe_open

from pipeline.depth import depth_calls
from pipeline.depth.answers import Floats
from pipeline.depth.bench import Bench, Measurement
from pipeline.depth.compare.methods import Choice
from pipeline.depth.head_job import head_job
from pipeline.depth.labels.warm_start_part import Heads
from pipeline.depth.trainer_jobs import HeadJob
from pipeline.recurrent.shape import RecurrentShape, iteration_flops, shape_of

CRITIC_FILE = "critic.safetensors"  # `pipeline.depth.labels.critic.CRITIC`, which loads torch
REGRESSION_FILE = "request_depth.safetensors"  # the same of `pipeline.depth.labels.request_depth`

Says = Callable[[HeadJob, Path, Sequence[Sequence[int]]], list[list[float]]]
"""A call of what a network in a folder says of prompts, given as tokens: [_P, _N]."""


class RequestDepths:
    """What chooses a depth for prompts, given as tokens, wherever a knob stands.

    A network looks at the states of the warm start's model, in a trainer's process, once.
    """

    def __init__(
        self,
        bench: Bench,
        prompts: Sequence[Sequence[int]],
        *,
        weights: Path,
        warm: Path,
        says: Says,
        depths_at: Callable[[Floats, float], list[int]],
    ) -> None:
        """`depths_at`: from what the network says [_P, _N] and the knob's place to depths."""
        self._bench = bench
        self._prompts = prompts
        self._weights = weights
        self._warm = warm
        self._says = says
        self._depths_at = depths_at

    def choice(self, place: float, rows: Sequence[int]) -> Choice:
        """At a place of the knob, of the prompts of these numbers."""
        depths = self._depths_at(self._said[list(rows)], place)
        flops = [
            choice_flops(
                self._weights,
                self._shape,
                prompt_tokens=len(self._prompts[row]),
                prompt_depth=self._bench.spec.prompt_depth,
                depth=depth,
            )
            for row, depth in zip(rows, depths, strict=True)
        ]
        return Choice(depths=depths, flops=np.array(flops))

    @functools.cached_property
    def _said(self) -> Floats:
        """[_P, _N] of every prompt."""
        bench = self._bench
        job = head_job(bench.plan, bench.ctx, model=self._warm, out=bench.ctx.work)
        prompts = list(self._prompts)
        return np.array(bench.call(self._says, job, self._weights.parent, prompts))

    @functools.cached_property
    def _shape(self) -> RecurrentShape:
        return shape_of(json.loads((self._warm / "config.json").read_text()))


def by_accuracy(bench: Bench, prompts: Sequence[Sequence[int]], heads: Heads) -> RequestDepths:
    """By the critic, at ln(lambda)."""
    return RequestDepths(
        bench,
        prompts,
        weights=heads.critic / CRITIC_FILE,
        warm=heads.warm,
        says=depth_calls.expected_accuracy,
        depths_at=lambda accuracy, log_price: best_depths(accuracy, log_price=log_price),
    )


def by_regression(bench: Bench, prompts: Sequence[Sequence[int]], heads: Heads) -> RequestDepths:
    """By the regression, so many iterations deeper."""
    deepest = bench.spec.max_depth
    return RequestDepths(
        bench,
        prompts,
        weights=heads.request_depth / REGRESSION_FILE,
        warm=heads.warm,
        says=depth_calls.expected_depths,
        depths_at=lambda expected, shift: shifted_depths(expected[:, 0], shift, deepest=deepest),
    )


def best_depths(accuracy: Floats, *, log_price: float) -> list[int]:
    """The depth of each prompt with the most accuracy [_P, _R] left after its price: lambda for a
    full-depth completion, a share of it for a shallower one. The shallowest of equals."""
    share = np.arange(1, accuracy.shape[1] + 1) / accuracy.shape[1]
    return (1 + np.argmax(accuracy - math.exp(log_price) * share, axis=1)).tolist()


def shifted_depths(expected: Floats, shift: float, *, deepest: int) -> list[int]:
    """The whole depth nearest to each expected one [_P] and the shift, within 1 and the deepest."""
    return np.clip(np.rint(expected + shift), 1, deepest).astype(int).tolist()


def look_flops(weights: Path) -> float:
    """One look of the network in a file: a multiply-add for every weight of its matrices."""
    with safe_open(weights, "np") as file:
        shapes = [file.get_slice(name).get_shape() for name in file.keys()]  # noqa: SIM118
    return 2.0 * sum(shape[0] * shape[1] for shape in shapes if len(shape) == 2)


def choice_flops(
    weights: Path, shape: RecurrentShape, *, prompt_tokens: int, prompt_depth: int, depth: int
) -> float:
    """The look, and what it waits for: it reads the last prompt position after `prompt_depth`
    iterations, also of a request that then runs at a lower `depth`."""
    waited = max(0, prompt_depth - depth)
    return look_flops(weights) + waited * iteration_flops(shape, context=prompt_tokens)


def with_flops(measurement: Measurement, flops: Floats) -> Measurement:
    """The same measurement, each completion of a prompt costing `flops` [_P] more.

    That work ran elsewhere, so its joules are taken to be as many a FLOP as the completions'.
    """
    answers = measurement.answers
    total = answers.flops + np.asarray(flops)[:, None]
    joules = measurement.energy.joules * float(total.sum() / answers.flops.sum())
    return replace(
        measurement,
        answers=replace(answers, flops=total),
        energy=replace(measurement.energy, joules=joules),
    )
