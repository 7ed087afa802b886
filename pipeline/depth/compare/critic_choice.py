"""The critic's choice of a request's depth, and what choosing costs."""

import functools
import json
import math
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
from safetensors import safe_open

from pipeline.depth import depth_calls
from pipeline.depth.answers import Floats
from pipeline.depth.bench import Bench, Measurement
from pipeline.depth.compare.methods import Choice
from pipeline.depth.head_job import head_job
from pipeline.recurrent.shape import RecurrentShape, iteration_flops, shape_of

CRITIC_FILE = "critic.safetensors"  # `pipeline.depth.labels.critic.CRITIC`, which loads torch


class Critic:
    """What chooses a depth for prompts, given as tokens, at any price.

    The critic in `folder` looks at the states of the model `warm`, in a trainer's process, once.
    """

    def __init__(
        self, bench: Bench, prompts: Sequence[Sequence[int]], *, folder: Path, warm: Path
    ) -> None:
        self._bench = bench
        self._prompts = prompts
        self._folder = folder
        self._warm = warm

    def choice(self, log_price: float, rows: Sequence[int]) -> Choice:
        """At ln(lambda), of the prompts of these numbers."""
        depths = best_depths(self._expected[list(rows)], log_price=log_price)
        flops = [
            choice_flops(
                self._folder,
                self._shape,
                prompt_tokens=len(self._prompts[row]),
                prompt_depth=self._bench.spec.prompt_depth,
                depth=depth,
            )
            for row, depth in zip(rows, depths, strict=True)
        ]
        return Choice(depths=depths, flops=np.array(flops))

    @functools.cached_property
    def _expected(self) -> Floats:
        """[_P, _R] accuracy that is expected of every prompt at every depth."""
        bench = self._bench
        job = head_job(bench.plan, bench.ctx, model=self._warm, out=bench.ctx.work)
        return np.array(
            bench.ctx.cluster.call(
                depth_calls.expected_accuracy, job, self._folder, list(self._prompts)
            )
        )

    @functools.cached_property
    def _shape(self) -> RecurrentShape:
        return shape_of(json.loads((self._warm / "config.json").read_text()))


def best_depths(accuracy: Floats, *, log_price: float) -> list[int]:
    """The depth of each prompt with the most accuracy [_P, _R] left after its price: lambda for a
    full-depth completion, a share of it for a shallower one. The shallowest of equals."""
    share = np.arange(1, accuracy.shape[1] + 1) / accuracy.shape[1]
    return (1 + np.argmax(accuracy - math.exp(log_price) * share, axis=1)).tolist()


def critic_flops(folder: Path) -> float:
    """One look of the critic in `folder`: a multiply-add for every weight of its matrices."""
    with safe_open(folder / CRITIC_FILE, "np") as file:
        shapes = [file.get_slice(name).get_shape() for name in file.keys()]  # noqa: SIM118
    return 2.0 * sum(shape[0] * shape[1] for shape in shapes if len(shape) == 2)


def choice_flops(
    folder: Path, shape: RecurrentShape, *, prompt_tokens: int, prompt_depth: int, depth: int
) -> float:
    """The look, and what it waits for: it reads the last prompt position after `prompt_depth`
    iterations, also of a request that then runs at a lower `depth`."""
    waited = max(0, prompt_depth - depth)
    return critic_flops(folder) + waited * iteration_flops(shape, context=prompt_tokens)


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
