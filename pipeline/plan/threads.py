"""CPU threads of trainers and engines that the recipe leaves to us.

Where training and sampling take turns each has every core in its turn; where a GRPO stage samples
ahead of its training each has half of them. Processes of one kind share theirs evenly. On GPUs, and
on a cluster whose cores are not counted here, every process has one thread.

Threads are part of every fingerprint, since sums follow them: a run goes on with the cores that it
began with, wherever it is launched again.
"""

import os
from typing import TYPE_CHECKING

from pipeline.recipe.hardware import Hardware
from pipeline.recipe.schema import Recipe

if TYPE_CHECKING:
    from pipeline.plan.stage_plan import Plan

MOST_CORES = 8
"""Counted at most: products of models that train on a CPU are too small to be split further."""


def with_threads(recipe: Recipe, *, device: str, cores: int) -> Recipe:
    """The recipe with `threads_per_rank` and `threads_per_engine` filled in where it has none."""
    hardware = recipe.hardware
    if device != "cpu" or hardware.ray_address is not None:
        cores = 1
    cores = min(cores, MOST_CORES)
    at_once = any(stage.samples_ahead for stage in recipe.stages.values())
    engines = cores // 2 if at_once else cores
    ranks = cores - engines if at_once else cores
    update = {
        "threads_per_rank": hardware.threads_per_rank or _each(ranks, hardware.ranks),
        "threads_per_engine": hardware.threads_per_engine or _each(engines, hardware.engines),
    }
    filled = Hardware.model_validate(hardware.model_dump() | update)
    return recipe.model_copy(update={"hardware": filled})


def other_cores(plan: "Plan") -> str | None:
    """What to say where a run goes on with another number of cores than it began with."""
    hardware, here = plan.recipe.hardware, usable_cores()
    same = min(plan.cores, MOST_CORES) == min(here, MOST_CORES)
    if plan.device != "cpu" or hardware.ray_address is not None or same:
        return None
    return (
        f"this run began with {plan.cores} cores, {here} are here: it keeps its threads, which its "
        "results depend on (hardware.threads_per_rank, hardware.threads_per_engine)"
    )


def usable_cores() -> int:
    """OMP_NUM_THREADS where it says so, as everywhere in OpenMP, else the cores that this process
    may run on."""
    stated = os.environ.get("OMP_NUM_THREADS", "")
    return int(stated) if stated.isdecimal() and int(stated) else len(os.sched_getaffinity(0))


def _each(cores: int, processes: int) -> int:
    return max(cores // processes, 1)
