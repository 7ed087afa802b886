"""The critic's choice of a request's depth, and what choosing costs."""

import json
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
from pipeline.recurrent.shape import RecurrentShape, iteration_flops, shape_of

CRITIC_FILE = "critic.safetensors"  # `pipeline.depth.labels.critic.CRITIC`, which loads torch


def critic_choice(
    bench: Bench, *, folder: Path, warm: Path, prompts: Sequence[Sequence[int]]
) -> Callable[[float], Choice]:
    """What chooses a depth for each of the prompts, given as tokens, at ln(lambda).

    The critic in `folder` looks at the states of the model `warm`, in a trainer's process.
    """

    def choice(log_price: float) -> Choice:
        job = head_job(bench.plan, bench.ctx, model=warm, out=bench.ctx.work)
        depths = bench.ctx.cluster.call(
            depth_calls.choose_depths, job, folder, prompts, log_price=log_price
        )
        shape = shape_of(json.loads((warm / "config.json").read_text()))
        flops = [
            choice_flops(
                folder,
                shape,
                prompt_tokens=len(prompt),
                prompt_depth=bench.spec.prompt_depth,
                depth=depth,
            )
            for prompt, depth in zip(prompts, depths, strict=True)
        ]
        return Choice(depths=depths, flops=np.array(flops))

    return choice


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
