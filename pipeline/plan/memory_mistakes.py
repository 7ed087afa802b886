"""Stages that cannot fit on the recipe's GPUs, with the numbers and what would fit."""

import math
from collections.abc import Iterator, Mapping
from typing import Any

from pipeline.plan.estimate import stage_memory, stage_shape
from pipeline.plan.gpu_memory import gpu_memory_gib
from pipeline.plan.memory import GIB, RankMemory
from pipeline.plan.placement import shares_gpus
from pipeline.plan.stage_memory import PROCESS_GIB
from pipeline.plan.stage_plan import PlanError
from pipeline.recipe.hardware import LAYERS_SHARED
from pipeline.recipe.schema import Recipe, Stage
from pipeline.recipe.stage_base import Training

SMALL = 0.05  # share of the whole under which a part is not named


def memory_mistakes(recipe: Recipe, name: str, stage: Stage, *, device: str) -> Iterator[str]:
    """A trainer, an engine or a reward model that needs more than a GPU has, one sentence each."""
    if device != "cuda":
        return
    try:
        rank, engine = stage_memory(recipe, name, device=device)
    except PlanError:  # a batch that cannot be split is a mistake of its own
        return
    gpu = gpu_memory_gib(recipe.hardware)
    shared = shares_gpus(recipe.hardware, device=device)
    room = gpu - PROCESS_GIB[device] if shared else gpu
    if rank is not None and rank.total > room:
        beside = f", of which a sleeping engine holds {PROCESS_GIB[device]:g}" if shared else ""
        yield (
            f"stages.{name}: a trainer needs {rank.total:.1f} GiB ({parts_text(rank)}), and a GPU "
            f"has {gpu:g} (hardware.gpu_memory_gib){beside}; {_remedy(recipe, name, stage, room)}"
        )
    if engine is None:
        return
    if shared and rank is not None:
        yield from _sampling_mistakes(recipe, name, rank, gpu=gpu)
    if engine.sequences is not None and engine.sequences < 1:
        room = recipe.hardware.gpu_memory_fraction * gpu
        yield (
            f"stages.{name}: an engine's GPU has {room:.1f} GiB to use, weights and activations "
            f"take {engine.total - engine.cache:.1f}, and keys and values of one sequence of "
            f"{stage.longest_completion:,} tokens {engine.sequence:.1f}; raise "
            "hardware.gpus_per_engine, or lower max_tokens"
        )


def _sampling_mistakes(recipe: Recipe, name: str, rank: RankMemory, *, gpu: float) -> Iterator[str]:
    """A trainer's states and the share of an engine that are more than the GPU of both."""
    share = recipe.hardware.gpu_memory_fraction
    if rank.resident + share * gpu <= gpu:
        return
    most = max(math.floor(100 * (1 - rank.resident / gpu)) / 100, 0.0)
    yield (
        f"stages.{name}: while its engine samples a trainer holds {rank.resident:.1f} GiB of a GPU "
        f"of {gpu:g}, and hardware.gpu_memory_fraction gives the engine {share * gpu:.1f}; "
        + (f"set it to {most:g} at most" if most else "set hardware.layout: separate")
    )


def scorer_mistakes(recipe: Recipe, *, device: str) -> Iterator[str]:
    """A reward model whose weights alone are more than its GPU has."""
    if device != "cuda":
        return
    gpu, value = gpu_memory_gib(recipe.hardware), 2 if recipe.model.dtype == "bfloat16" else 4
    for name, stage in recipe.stages.items():
        if stage.product != "reward_model":
            continue
        shape = stage_shape(recipe, name)
        if shape is not None and shape.parameters * value / GIB > gpu:
            yield (
                f"stages.{name}: its weights take {shape.parameters * value / GIB:.1f} GiB, and a "
                f"reward model has one GPU of {gpu:g}; start it from a smaller model"
            )


def parts_text(rank: RankMemory) -> str:
    """The parts that matter, largest first."""
    document = {key: value or 0.0 for key, value in rank.document().items() if key != "total"}
    large = sorted(document.items(), key=lambda part: -part[1])
    return ", ".join(f"{key} {gib:.1f}" for key, gib in large if gib > SMALL * rank.total)


def _remedy(recipe: Recipe, name: str, stage: Stage, gpu: float) -> str:
    """The first change that fits, in words; the least change of results first."""
    best: tuple[float, str] | None = None
    for text, changes, hardware in _changes(recipe, stage):
        total = _total_of(recipe, name, changes, hardware)
        if total is None:
            continue
        if total <= gpu:
            return f"{text}: {total:.1f} GiB"
        if best is None or total < best[0]:
            best = total, text
    if best is None:
        return "take a smaller model"
    return f"even with {best[1]} it needs {best[0]:.1f} GiB: take more ranks or a smaller model"


def _changes(
    recipe: Recipe, stage: Stage
) -> Iterator[tuple[str, Mapping[str, Any], Mapping[str, Any]]]:
    """(words, keys of the stage, keys of the hardware)."""
    if not isinstance(stage, Training):
        return
    hardware = recipe.hardware
    rows = stage.rows_per_forward or 1
    smaller = [rows // by for by in (2, 4, 8, 16, 32, 64) if rows % by == 0 and rows // by]
    kind = hardware.sharding if hardware.sharding in LAYERS_SHARED else "zero3"
    sharded = {"sharding": kind}
    again = {"gradient_checkpointing": True}
    last = {"micro_batch_rows": smaller[-1]} if smaller else {}
    for few in smaller[:2]:
        yield f"micro_batch_rows: {few}", {"micro_batch_rows": few}, {}
    if not stage.gradient_checkpointing:
        yield "gradient_checkpointing: true", again, {}
    for few in smaller:
        text = f"gradient_checkpointing: true with micro_batch_rows: {few}"
        yield text, {**again, "micro_batch_rows": few}, {}
    if hardware.sharding != kind and hardware.ranks > 1:
        yield f"hardware.sharding: {kind}", {}, sharded
    words = "gradient_checkpointing: true, the fewest micro_batch_rows"
    if hardware.sharding != kind:
        ranks = {"ranks": hardware.ranks} if hardware.ranks > 1 else {"ranks": 2}
        text = f"{words}, hardware.sharding: {kind} and hardware.ranks: {ranks['ranks']}"
        yield text, {**again, **last}, {**sharded, **ranks}
    more = {"ranks": 2 * hardware.ranks}
    text = f"{words}, hardware.sharding: {kind} and hardware.ranks: {2 * hardware.ranks}"
    yield text, {**again, **last}, {**sharded, **more}


def _total_of(
    recipe: Recipe, name: str, changes: Mapping[str, Any], hardware: Mapping[str, Any]
) -> float | None:
    """GiB of a trainer with other values; None where they do not go together."""
    stage = recipe.stages[name].model_copy(update=dict(changes))
    changed = recipe.model_copy(
        update={
            "stages": {**recipe.stages, name: stage},
            "hardware": recipe.hardware.model_copy(update=dict(hardware)),
        }
    )
    try:
        rank, _ = stage_memory(changed, name, device="cuda")
    except PlanError:
        return None
    return None if rank is None else rank.total
