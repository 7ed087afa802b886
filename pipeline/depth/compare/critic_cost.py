"""What letting the critic choose a request's depth costs, as part of its completions' cost."""

from dataclasses import replace
from pathlib import Path

import numpy as np
from safetensors import safe_open

from pipeline.depth.answers import Floats
from pipeline.depth.bench import Measurement
from pipeline.recurrent.shape import RecurrentShape, iteration_flops

CRITIC_FILE = "critic.safetensors"  # `pipeline.depth.labels.critic.CRITIC`, which loads torch


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


def with_flops(measured: Measurement, flops: Floats) -> Measurement:
    """The same measurement, each completion of a prompt costing `flops` [_P] more.

    That work ran elsewhere, so its joules are taken to be as many a FLOP as the completions'.
    """
    answers = measured.answers
    total = answers.flops + np.asarray(flops)[:, None]
    joules = measured.energy.joules * float(total.sum() / answers.flops.sum())
    return replace(
        measured,
        answers=replace(answers, flops=total),
        energy=replace(measured.energy, joules=joules),
    )
