"""Tokens, FLOPs, memory, hours and cost of a recipe, as arithmetic. An estimate, labelled as one.

Forward passes cost 2 FLOPs per parameter and token, training 6 (Kaplan et al., arXiv 2001.08361).
Memory is `pipeline.plan.stage_memory`'s, rates are `pipeline.plan.speeds`'.
"""

from collections.abc import Iterable
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from typing import Any

from pipeline.plan.lengths import task_lengths
from pipeline.plan.measured import Measured, Rate
from pipeline.plan.memory import GIB, EngineMemory, RankMemory, states
from pipeline.plan.model_origin import first_source
from pipeline.plan.model_shape import ModelShape
from pipeline.plan.placement import gpus_of
from pipeline.plan.sizes import shape_of
from pipeline.plan.speeds import Load, Seconds, Speed, assumption, seconds_of, speed_of
from pipeline.plan.stage_memory import as_pruned, engine_memory, rank_memory
from pipeline.plan.vocabulary import MARGIN_TOKENS
from pipeline.prompts.file_rows import file_rows
from pipeline.prompts.row_files import row_files
from pipeline.recipe.depth_stage import COMPARISON, JOINT, DepthStage
from pipeline.recipe.evaluate_stage import EvaluateStage
from pipeline.recipe.prompt_source import PromptSource
from pipeline.recipe.schema import Recipe, Stage
from pipeline.recipe.stage_base import BASE
from pipeline.recipe.stage_work import (
    BLOCK_TOKENS,
    FILL,
    HARVESTED,
    UNKNOWN,
    Lengths,
    Sampled,
    Trained,
    Work,
)
from pipeline.recurrent.explore import Exploration

JOURNAL_BYTES = 8  # a token: measured 6 for long completions, 26 for those of a few tokens
CHECKPOINTS_AT_ONCE = 3  # of a stage that trains: two are kept while the next is written
UNKNOWN_ROWS = 10_000  # of a data set whose size the recipe does not say; ours
PRUNED_WORDS = MARGIN_TOKENS + 300  # of a vocabulary that a run prunes; SmolLM2's has 4,360


@dataclass(frozen=True, kw_only=True)
class StageEstimate:
    """One stage. None marks what cannot be told, as the model's size is unknown."""

    name: str
    kind: str
    generated_tokens: float
    trained_tokens: float
    flops: float | None
    seconds: Seconds | None
    rank: RankMemory | None  # of one trainer
    engine: EngineMemory | None  # of one GPU of an engine, or of one engine on a CPU
    memory_gib: float | None  # of one trainer, altogether
    kv_gib: float | None  # of one engine with every sequence at full length
    scorer_gib: float | None  # weights of the reward model, beside the engines
    hours: float | None
    disk_gib: float | None  # of the run folder, what it leaves: weights and the journal of rollouts
    checkpoints_gib: float | None  # while it trains: two kept, and one that is being written


@dataclass(frozen=True, kw_only=True)
class Estimate:
    """A whole recipe. Every number rests on `assumptions`, which are printed with it."""

    stages: tuple[StageEstimate, ...]
    hours: float | None
    gpus: int
    dollars: float | None
    disk_gib: float | None  # of the run folder at its largest
    assumptions: tuple[str, ...]


def estimate(
    recipe: Recipe,
    *,
    device: str,
    matmul_gflops: float | None = None,
    measured: Measured | None = None,
) -> Estimate:
    """Every stage of a recipe whose references are right, on `device` (cpu or cuda).

    `matmul_gflops`: of one CPU thread; default: assumed. `measured`: rates in place of those.
    """
    assumed = speed_of(device, matmul_gflops=matmul_gflops)
    hardware = recipe.hardware

    def speed(kind: str) -> Speed:
        if measured is None:
            return assumed
        return measured.speed(kind, assumed, hardware, device=device)

    stages = tuple(
        _stage_estimate(
            recipe, name, stage, device=device, speed=speed(stage.kind), measured=measured
        )
        for name, stage in recipe.stages.items()
    )
    run_s = assumed.run_s if measured is None else measured.run_s
    hours = _total([run_s / 3600, *(s.hours for s in stages)])
    gpus = gpus_of(recipe) if device == "cuda" else 0
    price = hardware.dollars_per_gpu_hour
    dollars = hours * gpus * price if price is not None and hours is not None and gpus else None
    return Estimate(
        stages=stages,
        hours=hours,
        gpus=gpus,
        dollars=dollars,
        disk_gib=_largest_disk_gib(recipe, stages),
        assumptions=_assumptions(recipe, assumed, device=device, measured=measured),
    )


def _assumptions(
    recipe: Recipe, speed: Speed, *, device: str, measured: Measured | None
) -> tuple[str, ...]:
    rates: tuple[str, ...] = (assumption(speed, device=device),)
    if measured is not None:
        kinds = dict.fromkeys(stage.kind for stage in recipe.stages.values())
        others = [kind for kind in kinds if measured.rate(kind) is None]
        rates = tuple(f"for {', '.join(others)}: {text}" for text in rates if others)
    lengths = f"completions of {FILL:.0%} of max_tokens"
    if measured is not None:
        lengths = "completions and rows as long as the miniature's where rates are measured"
    return (
        *rates,
        f"{lengths}, of our own tasks as long as their solutions; "
        f"{UNKNOWN_ROWS:,} rows where a size is not given; a harvest keeps {HARVESTED:.0%}",
    )


def _stage_estimate(
    recipe: Recipe,
    name: str,
    stage: Stage,
    *,
    device: str,
    speed: Speed,
    measured: Measured | None,
) -> StageEstimate:
    shape, work = stage_shape(recipe, name), _work(recipe, name, task_lengths(recipe, name))
    load = load_of(recipe, name, work)
    numbers: dict[str, Any] = {}
    if shape is not None:
        hardware = recipe.hardware
        seconds = seconds_of(load, hardware, speed=speed, device=device, overlaps=work.overlaps)
        if isinstance(stage, DepthStage) and measured is not None and "depth" in measured.rates:
            seconds = _by_parts(stage, seconds, work, rate=measured.rates["depth"])
        rank, engine = stage_memory(recipe, name, device=device)
        numbers = {
            "flops": load.generate_flops + load.score_flops + load.train_flops,
            "seconds": seconds,
            "hours": seconds.total / 3600,
            "rank": rank,
            "engine": engine,
            "memory_gib": None if rank is None else rank.total,
            "kv_gib": _kv_gib(recipe, engine),
            "scorer_gib": _scorer_gib(recipe, work, device=device),
            "disk_gib": _left_gib(recipe, stage, shape, load),
            "checkpoints_gib": _checkpoints_gib(recipe, stage, shape),
        }
    return StageEstimate(
        name=name,
        kind=stage.kind,
        generated_tokens=load.generated_tokens,
        trained_tokens=load.trained_tokens,
        **(dict.fromkeys(OPEN) | numbers),
    )


def _by_parts(stage: DepthStage, seconds: Seconds, work: Work, *, rate: Rate) -> Seconds:
    """All parts but the SFT at random depths, as they were measured: the joint phase with what it
    trains. A comparison starts once for each method."""
    rounds = 0 if stage.joint is None else 2 * stage.joint.rounds  # tokens and head
    times = {"5-rl": stage.rl.seeds, JOINT: rounds, COMPARISON: stage.compared_methods}
    sft, *_ = work.trained
    share = sft.tokens / max(sum(part.tokens for part in work.trained), 1.0)
    parts_s = rate.parts_s(stage.part_completions, times=times)
    return replace(seconds, generating=parts_s, training=share * seconds.training)


def _work(recipe: Recipe, name: str, lengths: Lengths) -> Work:
    stage = recipe.stages[name]
    rows = {item.name: _rows(recipe, item.name) for item in stage.inputs()}
    return stage.work(rows, lengths=lengths)


def stage_load(recipe: Recipe, name: str, *, completion_tokens: float | None = None) -> Load:
    """What a stage computes, with completions of a mean length that is known, or as planned."""
    lengths = task_lengths(recipe, name)
    if completion_tokens is not None:
        lengths = replace(lengths, completion=completion_tokens, shown=True)
    return load_of(recipe, name, _work(recipe, name, lengths))


OPEN = (
    "flops", "seconds", "hours", "rank", "engine", "memory_gib", "kv_gib", "scorer_gib",
    "disk_gib", "checkpoints_gib",
)  # fmt: skip
"""What cannot be told of a model of unknown size."""


def stage_memory(
    recipe: Recipe, name: str, *, device: str
) -> tuple[RankMemory | None, EngineMemory | None]:
    """Of a stage's trainer and of an engine; None for what it has not, or cannot be told.

    Raises PlanError where the stage's batch cannot be split over the ranks.
    """
    stage, shape = recipe.stages[name], stage_shape(recipe, name)
    if shape is None:
        return None, None
    lengths, dtype = task_lengths(recipe, name), recipe.model.dtype
    rank = rank_memory(stage, shape, recipe.hardware, dtype=dtype, device=device, lengths=lengths)
    if not stage.uses_engines:
        return rank, None
    most = stage.longest_completion
    longest = most + UNKNOWN.prompt_tokens(most)
    engine = engine_memory(shape, recipe.hardware, dtype=dtype, device=device, longest=longest)
    return rank, engine


def _kv_gib(recipe: Recipe, engine: EngineMemory | None) -> float | None:
    """Of one engine, over all of its GPUs."""
    if engine is None or engine.sequence is None:
        return None
    hardware = recipe.hardware
    return engine.sequence * hardware.gpus_per_engine * hardware.max_sequences_per_engine


def _left_gib(recipe: Recipe, stage: Stage, shape: ModelShape, load: Load) -> float:
    """A copy of the weights where it makes a model, and its rollouts."""
    copies = stage.trainer_memory is not None or stage.kind in ("depth", "export")
    weights = shape.parameters * _value_bytes(recipe.model.dtype) if copies else 0.0
    return (weights + load.generated_tokens * JOURNAL_BYTES) / GIB


def _checkpoints_gib(recipe: Recipe, stage: Stage, shape: ModelShape) -> float:
    """Weights, Adam's state and a reference, as often as they are there at once."""
    memory, dtype = stage.trainer_memory, recipe.model.dtype
    if memory is None:
        return 0.0
    rank = memory.adapter_rank
    learned = shape.parameters if rank is None else shape.adapters(rank)
    held = states(
        learned,
        sharding=recipe.hardware.sharding,
        ranks=1,
        dtype=dtype,
        eight_bit=memory.eight_bit,
    )
    reference = shape.parameters * _value_bytes(dtype) if memory.reference else 0.0
    return CHECKPOINTS_AT_ONCE * (held.weights + held.optimizer + reference) / GIB


def _largest_disk_gib(recipe: Recipe, stages: Iterable[StageEstimate]) -> float | None:
    """All that stays, the base with it, beside the largest stage's checkpoints."""
    base = shape_of(recipe.model)
    left, beside = [stage.disk_gib for stage in stages], [s.checkpoints_gib for s in stages]
    kept, largest = _total(left), [gib for gib in beside if gib is not None]
    if base is None or kept is None:
        return None
    return base.parameters * _value_bytes(recipe.model.dtype) / GIB + kept + max(largest, default=0)


def load_of(recipe: Recipe, name: str, work: Work) -> Load:
    """A stage's work, priced: forward passes of prompts and completions, training, and weights to
    the engines. A published model answers at length where nothing has taught it our tasks."""

    def run(model: str | None) -> float:
        """Parameters that a token of a model passes; those of the stage's own where unknown."""
        shape = stage_shape(recipe, name if model is None else model) or stage_shape(recipe, name)
        return shape.run if shape else 0.0

    rambling = recipe.model.hub is not None or recipe.model.gguf is not None
    block_tokens = 1 if recipe.hardware.engine == "native" else BLOCK_TOKENS

    def sampled(part: Sampled) -> Sampled:
        if (
            part.model != BASE
            or not rambling
            or part.lengths.completion is None
            or part.lengths.shown
        ):
            return part
        lengths = replace(part.lengths, completion=float(part.max_tokens))
        return replace(part, lengths=lengths)

    def forward_flops(part: Sampled) -> float:
        return 2 * run(part.model) * (part.tokens + part.read_tokens(block_tokens=block_tokens))

    def exploring_flops(part: Sampled) -> float:
        """Of the further paths of completion tokens; their judge is small beside them."""
        stage, shape = recipe.stages[name], stage_shape(recipe, part.model or name)
        if not isinstance(stage, EvaluateStage) or stage.explore is None or shape is None:
            return 0.0
        runs = Exploration(**stage.explore.model_dump()).runs(stage.depth or shape.iterations)
        return 2 * runs * shape.iterated * part.tokens

    def training_flops(part: Trained) -> float:
        """2 forward, 4 backward, 2 more where activations are recomputed, 2 of a frozen model; 2
        backward where adapters alone have gradients."""
        frozen = sum(2 * run(model) for model in part.frozen)
        own = (4 if part.adapted else 6) + (2 if part.recomputed else 0)
        return (own * run(None) + frozen) * part.tokens

    samples = [sampled(part) for part in work.sampled]
    shape = stage_shape(recipe, name)
    synced = 0.0
    if shape is not None and work.syncs:
        synced = work.syncs * shape.parameters * _value_bytes(recipe.model.dtype)
    return Load(
        models=max(len({part.model for part in samples}), 1),
        synced_bytes=synced,
        syncs=work.syncs,
        generated_tokens=sum(part.tokens for part in samples),
        trained_tokens=sum(part.tokens for part in work.trained),
        generate_flops=sum(forward_flops(part) + exploring_flops(part) for part in samples),
        score_flops=sum(forward_flops(part) for part in work.scored),
        train_flops=sum(training_flops(part) for part in work.trained),
    )


def _scorer_gib(recipe: Recipe, work: Work, *, device: str) -> float | None:
    """Of the reward model that reads what the stage samples: float32 on the CPU."""
    shapes = [stage_shape(recipe, part.model) for part in work.scored if part.model is not None]
    dtype = "float32" if device == "cpu" else recipe.model.dtype
    return _total(s.parameters * _value_bytes(dtype) / GIB for s in shapes if s) if shapes else None


def _value_bytes(dtype: str) -> int:
    return 2 if dtype == "bfloat16" else 4


def stage_shape(recipe: Recipe, name: str) -> ModelShape | None:
    """The model that a stage trains, samples or copies, at its mean iterations; `base` is the
    recipe's."""
    source = first_source(recipe, name)
    shape = None if source is None else shape_of(source)
    if shape is not None and recipe.model.vocabulary == "pruned":
        shape = as_pruned(shape, words=PRUNED_WORDS)
    stage = recipe.stages.get(name)
    iterations = None if stage is None else stage.mean_iterations
    if shape is None or iterations is None:
        return shape
    return replace(shape, iterations=iterations)


def _rows(recipe: Recipe, name: str) -> float:
    """Rows of a prompts entry, or of a harvest; 0 for a model."""
    stage = recipe.stages.get(name)
    if stage is not None:
        return stage.harvested_rows({i.name: _rows(recipe, i.name) for i in stage.inputs()})
    return source_rows(recipe.prompts[name]) if name in recipe.prompts else 0.0


def source_rows(source: PromptSource) -> float:
    """Rows of a prompts entry, as far as recipe and files tell."""
    if source.size is not None:
        return source.size
    if source.file is None:
        return UNKNOWN_ROWS
    return sum(_rows_in(path, path.stat().st_mtime_ns) for path in row_files(source.file))


@cache
def _rows_in(path: Path, changed_ns: int) -> int:
    """Rows of a file as it stood at a time: every stage that reads it asks."""
    return sum(1 for _ in file_rows(path))


def _total(values: Iterable[float | None]) -> float | None:
    numbers = list(values)
    known = [number for number in numbers if number is not None]
    return sum(known) if len(known) == len(numbers) else None
