"""Tokens, FLOPs, memory, hours and cost of a recipe, as arithmetic. An estimate, labelled as one.

Forward passes cost 2 FLOPs per parameter and token, training 6 (Kaplan et al., arXiv 2001.08361);
a mixed-precision Adam holds 16 bytes per parameter (ZeRO, arXiv 1910.02054).
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path

from pipeline.plan.model_origin import first_source
from pipeline.plan.placement import gpus_of
from pipeline.plan.sizes import ModelShape, optimizer_bytes, shape_of
from pipeline.prompts.file_rows import file_rows
from pipeline.prompts.row_files import row_files
from pipeline.recipe.hardware import Hardware
from pipeline.recipe.prompt_source import PromptSource
from pipeline.recipe.schema import Recipe, Stage
from pipeline.recipe.stage_work import FILL, HARVESTED, PROMPT_TOKENS, Sampled, Trained, Work

GIB = 2**30
JOURNAL_BYTES = 8  # a token: measured 6 for long completions, 26 for those of a few tokens
CHECKPOINTS_AT_ONCE = 3  # of a stage that trains: two are kept while the next is written
UNKNOWN_ROWS = 10_000  # of a data set whose size the recipe does not say; ours


@dataclass(frozen=True, kw_only=True)
class Speed:
    """Assumed sustained rates of one device: a GPU, or one CPU thread."""

    name: str
    train_flops_per_s: float
    generate_flops_per_s: float
    max_tokens_per_s: float  # of one engine, however small the model


SPEEDS: Mapping[str, Speed] = {
    # Measured on two AVX-512 cores without bf16 units, float32: 0.9M parameters trained at 9,000
    # tokens/s, 135M sampled at 110 tokens/s, 0.5M at 5,700 tokens/s.
    "cpu": Speed(
        name="CPU thread, float32",
        train_flops_per_s=40e9,
        generate_flops_per_s=25e9,
        max_tokens_per_s=6_000,
    ),
    # Assumed, not measured here: 35 % of an H100's 989 TFLOP/s in training, 8 % in generation.
    "cuda": Speed(
        name="H100-class GPU, bfloat16",
        train_flops_per_s=350e12,
        generate_flops_per_s=80e12,
        max_tokens_per_s=30_000,
    ),
}


@dataclass(frozen=True, kw_only=True)
class StageEstimate:
    """One stage. None marks what cannot be told, as the model's size is unknown."""

    name: str
    kind: str
    generated_tokens: float
    trained_tokens: float
    flops: float | None
    memory_gib: float | None  # weights, gradients, Adam and a reference per rank; no activations
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


@dataclass(frozen=True, kw_only=True)
class Load:
    """What a stage computes: tokens and FLOPs, generating, scoring by a model and training."""

    generated_tokens: float
    trained_tokens: float
    generate_flops: float
    score_flops: float
    train_flops: float


def estimate(recipe: Recipe, *, device: str) -> Estimate:
    """Every stage of a recipe whose references are right, on `device` (cpu or cuda)."""
    stages = tuple(
        _stage_estimate(recipe, name, stage, device=device) for name, stage in recipe.stages.items()
    )
    hours = _total(s.hours for s in stages)
    hardware = recipe.hardware
    gpus = gpus_of(recipe) if device == "cuda" else 0
    price = hardware.dollars_per_gpu_hour
    dollars = hours * gpus * price if price is not None and hours is not None and gpus else None
    return Estimate(
        stages=stages,
        hours=hours,
        gpus=gpus,
        dollars=dollars,
        disk_gib=_largest_disk_gib(recipe, stages),
        assumptions=_assumptions(device),
    )


def _assumptions(device: str) -> tuple[str, ...]:
    speed = SPEEDS[device]
    return (
        f"{speed.name}: {_si(speed.train_flops_per_s)}FLOP/s training, "
        f"{_si(speed.generate_flops_per_s)}FLOP/s generating, "
        f"at most {speed.max_tokens_per_s:,.0f} tokens/s per engine",
        f"sequences of {FILL:.0%} of max_tokens; {UNKNOWN_ROWS:,} rows where a size is not given; "
        f"a harvest keeps {HARVESTED:.0%}; memory without activations",
    )


def _stage_estimate(recipe: Recipe, name: str, stage: Stage, *, device: str) -> StageEstimate:
    shape = _shape(recipe, name)
    work = stage.work({item.name: _rows(recipe, item.name) for item in stage.inputs()})
    load = _load(recipe, name, work)
    return StageEstimate(
        name=name,
        kind=stage.kind,
        generated_tokens=load.generated_tokens,
        trained_tokens=load.trained_tokens,
        flops=load.generate_flops + load.score_flops + load.train_flops if shape else None,
        memory_gib=_memory_gib(recipe, stage, shape) if shape else None,
        kv_gib=_kv_gib(recipe, stage, shape) if shape else None,
        scorer_gib=_scorer_gib(recipe, work, device=device) if shape else None,
        hours=_hours(load, recipe.hardware, device=device, overlaps=work.overlaps)
        if shape
        else None,
        disk_gib=_left_gib(recipe, stage, shape, load) if shape else None,
        checkpoints_gib=_checkpoints_gib(recipe, stage, shape) if shape else None,
    )


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
    values = optimizer_bytes(
        learned, sharding="none", ranks=1, dtype=dtype, eight_bit=memory.eight_bit
    )
    gradients = learned * _value_bytes(dtype)
    reference = shape.parameters * _value_bytes(dtype) if memory.reference else 0.0
    return CHECKPOINTS_AT_ONCE * (values - gradients + reference) / GIB


def _largest_disk_gib(recipe: Recipe, stages: Iterable[StageEstimate]) -> float | None:
    """All that stays, the base with it, beside the largest stage's checkpoints."""
    base = shape_of(recipe.model)
    left, beside = [stage.disk_gib for stage in stages], [s.checkpoints_gib for s in stages]
    kept, largest = _total(left), [gib for gib in beside if gib is not None]
    if base is None or kept is None:
        return None
    return base.parameters * _value_bytes(recipe.model.dtype) / GIB + kept + max(largest, default=0)


def _load(recipe: Recipe, name: str, work: Work) -> Load:
    """A stage's work, priced: forward passes of prompts and completions, and training."""

    def run(model: str | None) -> float:
        """Parameters that a token of a model passes; those of the stage's own where unknown."""
        shape = _shape(recipe, name if model is None else model) or _shape(recipe, name)
        return shape.run if shape else 0.0

    def forward_flops(part: Sampled) -> float:
        return 2 * run(part.model) * (part.tokens + part.prompt_tokens)

    def training_flops(part: Trained) -> float:
        """2 forward, 4 backward, 2 more where activations are recomputed, 2 of a frozen model; 2
        backward where adapters alone have gradients."""
        frozen = sum(2 * run(model) for model in part.frozen)
        own = (4 if part.adapted else 6) + (2 if part.recomputed else 0)
        return (own * run(None) + frozen) * part.tokens

    return Load(
        generated_tokens=sum(part.tokens for part in work.sampled),
        trained_tokens=sum(part.tokens for part in work.trained),
        generate_flops=sum(forward_flops(part) for part in work.sampled),
        score_flops=sum(forward_flops(part) for part in work.scored),
        train_flops=sum(training_flops(part) for part in work.trained),
    )


def _hours(load: Load, hardware: Hardware, *, device: str, overlaps: bool) -> float:
    """Generation, scoring and training one after the other, or training meanwhile. A reward model
    has the devices of one engine, and reads as fast as a trainer."""
    speed = SPEEDS[device]
    trainers, generators = hardware.ranks, hardware.engines * hardware.gpus_per_engine
    if device == "cpu":
        trainers = hardware.ranks * hardware.rank_threads
        generators = hardware.engines * hardware.engine_threads
    generating = max(
        load.generate_flops / (generators * speed.generate_flops_per_s),
        load.generated_tokens / (hardware.engines * speed.max_tokens_per_s),
    )
    scoring = load.score_flops / (generators / hardware.engines * speed.train_flops_per_s)
    training = load.train_flops / (trainers * speed.train_flops_per_s)
    sampling = generating + scoring
    return (max(sampling, training) if overlaps else sampling + training) / 3600


def _memory_gib(recipe: Recipe, stage: Stage, shape: ModelShape) -> float | None:
    """Of one rank of the trainer."""
    memory, hardware, dtype = stage.trainer_memory, recipe.hardware, recipe.model.dtype
    if memory is None:
        return None
    sharding, ranks = hardware.sharding, hardware.ranks
    rank = memory.adapter_rank
    total = optimizer_bytes(
        shape.parameters if rank is None else shape.adapters(rank),
        frozen=0.0 if rank is None else shape.parameters,
        sharding=sharding,
        ranks=ranks,
        dtype=dtype,
        eight_bit=memory.eight_bit,
    )
    if memory.reference:
        total += shape.parameters * _value_bytes(dtype) / (ranks if sharding == "zero3" else 1)
    return total / GIB


def _kv_gib(recipe: Recipe, stage: Stage, shape: ModelShape) -> float | None:
    """Of one engine."""
    if not stage.uses_engines or shape.kv_values is None:
        return None
    tokens = recipe.hardware.max_sequences_per_engine * (stage.longest_completion + PROMPT_TOKENS)
    return tokens * shape.kv_values * _value_bytes(recipe.model.dtype) / GIB


def _scorer_gib(recipe: Recipe, work: Work, *, device: str) -> float | None:
    """Of the reward model that reads what the stage samples: float32 on the CPU."""
    shapes = [_shape(recipe, part.model) for part in work.scored if part.model is not None]
    dtype = "float32" if device == "cpu" else recipe.model.dtype
    return _total(s.parameters * _value_bytes(dtype) / GIB for s in shapes if s) if shapes else None


def _value_bytes(dtype: str) -> int:
    return 2 if dtype == "bfloat16" else 4


def _shape(recipe: Recipe, name: str) -> ModelShape | None:
    """The model that a stage trains, samples or copies, at its mean iterations; `base` is the
    recipe's."""
    source = first_source(recipe, name)
    shape = None if source is None else shape_of(source)
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
    return _source_rows(recipe.prompts[name]) if name in recipe.prompts else 0.0


def _source_rows(source: PromptSource) -> float:
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


def _si(value: float) -> str:
    """1.5e9 as `1.5 G`."""
    for power, letter in ((1e18, "E"), (1e15, "P"), (1e12, "T"), (1e9, "G"), (1e6, "M")):
        if value >= power:
            return f"{value / power:g} {letter}"
    return f"{value:g} "
