"""Tokens, FLOPs, memory, hours and cost of a recipe, as arithmetic. An estimate, labelled as one.

Forward passes cost 2 FLOPs per parameter and token, training 6 (Kaplan et al., arXiv 2001.08361);
a mixed-precision Adam holds 16 bytes per parameter (ZeRO, arXiv 1910.02054).
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace

from pipeline.plan.sizes import ModelShape, optimizer_bytes, shape_of
from pipeline.recipe.depth_stage import SLIDER_BUDGETS, DepthStage, JointPhase, RandomDepthSft
from pipeline.recipe.hardware import Hardware
from pipeline.recipe.places import resolve_data
from pipeline.recipe.prompt_source import PromptSource
from pipeline.recipe.sampling_stages import EvaluateStage, ExportStage, RejectStage
from pipeline.recipe.schema import Recipe, Stage
from pipeline.recipe.section import listed
from pipeline.recipe.training_stages import (
    DistillStage,
    GrpoStage,
    RewardModelStage,
    SftStage,
    Training,
)

GIB = 2**30
FILL = 0.5  # share of max_tokens that an average sequence uses
PROMPT_TOKENS = 64  # of an average prompt, at most as many as a completion
UNKNOWN_ROWS = 10_000  # of a data set whose size the recipe does not say
KEPT = 0.5  # share of prompts of which a harvest keeps a row


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
    hours: float | None


@dataclass(frozen=True, kw_only=True)
class Estimate:
    """A whole recipe. Every number rests on `assumptions`, which are printed with it."""

    stages: tuple[StageEstimate, ...]
    hours: float | None
    gpus: int
    dollars: float | None
    assumptions: tuple[str, ...]


@dataclass(frozen=True, kw_only=True)
class Work:
    """What a stage computes: tokens and FLOPs, generating and training."""

    generated_tokens: float = 0.0
    trained_tokens: float = 0.0
    generate_flops: float = 0.0
    train_flops: float = 0.0


def estimate(recipe: Recipe, *, device: str) -> Estimate:
    """Every stage of a recipe whose references are right, on `device` (cpu or cuda)."""
    stages = tuple(
        _stage_estimate(recipe, name, stage, device=device) for name, stage in recipe.stages.items()
    )
    hours = _total(s.hours for s in stages)
    hardware = recipe.hardware
    gpus = hardware.ranks + hardware.engines * hardware.gpus_per_engine if device == "cuda" else 0
    price = hardware.dollars_per_gpu_hour
    dollars = hours * gpus * price if price is not None and hours is not None and gpus else None
    return Estimate(
        stages=stages,
        hours=hours,
        gpus=gpus,
        dollars=dollars,
        assumptions=_assumptions(device),
    )


def _assumptions(device: str) -> tuple[str, ...]:
    speed = SPEEDS[device]
    return (
        f"{speed.name}: {_si(speed.train_flops_per_s)}FLOP/s training, "
        f"{_si(speed.generate_flops_per_s)}FLOP/s generating, "
        f"at most {speed.max_tokens_per_s:,.0f} tokens/s per engine",
        f"sequences of {FILL:.0%} of max_tokens; {UNKNOWN_ROWS:,} rows where a size is not given; "
        f"a harvest keeps {KEPT:.0%}; memory without activations",
    )


def _stage_estimate(recipe: Recipe, name: str, stage: Stage, *, device: str) -> StageEstimate:
    shape = _shape_after(recipe, name)
    parameters = shape.parameters if shape else 0.0
    if shape is not None and isinstance(stage, DepthStage):
        shape = replace(shape, iterations=(stage.max_depth + 1) // 2)
    work = _work(recipe, stage, shape.run if shape else 0.0)
    known = shape is not None
    return StageEstimate(
        name=name,
        kind=stage.kind,
        generated_tokens=work.generated_tokens,
        trained_tokens=work.trained_tokens,
        flops=work.generate_flops + work.train_flops if known else None,
        memory_gib=_memory_gib(recipe, name, stage, parameters) if known else None,
        kv_gib=_kv_gib(recipe, stage, shape, device=device) if known else None,
        hours=_hours(work, recipe.hardware, device=device) if known else None,
    )


def _work(recipe: Recipe, stage: Stage, parameters: float) -> Work:
    match stage:
        case GrpoStage():
            return _grpo_work(stage, parameters)
        case SftStage() | DistillStage() | RewardModelStage():
            return _supervised_work(recipe, stage, parameters)
        case RejectStage():
            prompts = stage.size or _rows(recipe, stage.prompts)
            return _sampling(prompts * stage.samples_per_prompt, stage.max_tokens, parameters)
        case EvaluateStage():
            shapes = [_shape_after(recipe, model) for model in stage.models]
            sequences = _rows(recipe, stage.prompts) * stage.samples_per_prompt
            parts = [
                _sampling(sequences, stage.max_tokens, s.run if s else parameters) for s in shapes
            ]
            return Work(
                generated_tokens=sum(p.generated_tokens for p in parts),
                generate_flops=sum(p.generate_flops for p in parts),
            )
        case DepthStage():
            return _depth_work(recipe, stage, parameters)
        case ExportStage():
            return Work()


def _grpo_work(stage: GrpoStage, parameters: float) -> Work:
    """Generation, a forward pass of the reference where there is a KL term, and training."""
    sequences = stage.steps * stage.prompts_per_step * stage.samples_per_prompt
    sampled = _sampling(sequences, stage.max_tokens, parameters)
    tokens = sampled.generated_tokens + sequences * _prompt_tokens(stage.max_tokens)
    per_token = _train_flops(stage) + (2 if stage.kl else 0)
    return Work(
        generated_tokens=sampled.generated_tokens,
        trained_tokens=tokens,
        generate_flops=sampled.generate_flops,
        train_flops=per_token * parameters * tokens,
    )


def _depth_work(recipe: Recipe, stage: DepthStage, parameters: float) -> Work:
    """Rollouts of all parts, the SFT at random depth and the joint phase's tokens; the head's own
    training is nothing.

    `parameters` are those that a token runs through at half of `max_depth`, the mean of everything.
    """
    pareto = stage.pareto
    seeds = stage.rl.seeds
    settings = 2 * stage.max_depth + pareto.points * (len(pareto.baselines) + seeds)
    settings += SLIDER_BUDGETS
    settings += len(pareto.transfer) * (stage.max_depth + pareto.points * seeds)
    sequences = (
        stage.headroom.size * stage.headroom.samples_per_prompt * stage.max_depth
        + stage.warm_start.size * stage.warm_start.samples_per_prompt
        + stage.rl.steps * stage.rl.prompts_per_step * stage.rl.samples_per_prompt * stage.rl.seeds
        + stage.calibrate.size
        * (stage.calibrate.points + stage.calibrate.rounds * len(stage.budgets or []))
        + pareto.size * pareto.samples_per_prompt * settings
    )
    sft = stage.random_depth or RandomDepthSft()
    rows = sum(_rows(recipe, row) for row in listed(stage.rows or []))
    tokens = rows * sft.epochs * FILL * sft.max_tokens
    sampled = _sampling(sequences, stage.max_tokens, parameters)
    joint = _joint_work(stage, stage.joint, parameters) if stage.joint else Work()
    return Work(
        generated_tokens=sampled.generated_tokens + joint.generated_tokens,
        trained_tokens=tokens + joint.trained_tokens,
        generate_flops=sampled.generate_flops + joint.generate_flops,
        train_flops=6 * parameters * tokens + joint.train_flops,
    )


def _joint_work(stage: DepthStage, joint: JointPhase, parameters: float) -> Work:
    """Rollouts of both halves, and the tokens' training; whole gradients are counted."""
    per_step = joint.rounds * stage.rl.prompts_per_step * stage.rl.samples_per_prompt
    steps = joint.token_steps + joint.head_steps
    sampled = _sampling(per_step * steps, stage.max_tokens, parameters)
    per_row = FILL * stage.max_tokens + _prompt_tokens(stage.max_tokens)
    tokens = per_step * joint.token_steps * per_row
    return Work(
        generated_tokens=sampled.generated_tokens,
        trained_tokens=tokens,
        generate_flops=sampled.generate_flops,
        train_flops=(8 if joint.kl else 6) * parameters * tokens,
    )


def _supervised_work(
    recipe: Recipe, stage: SftStage | DistillStage | RewardModelStage, parameters: float
) -> Work:
    if isinstance(stage, DistillStage) and stage.mode == "on_policy":
        return _on_policy_work(recipe, stage, parameters)
    if isinstance(stage, RewardModelStage):
        pairs = _rows(recipe, stage.pairs)
        rows = 2 * min(pairs, stage.max_pairs or pairs)
    else:
        rows = sum(_rows(recipe, row) for row in listed(stage.rows))
    tokens = rows * stage.epochs * FILL * stage.max_tokens
    return Work(
        trained_tokens=tokens,
        train_flops=_train_flops(stage) * parameters * tokens,
    )


def _on_policy_work(recipe: Recipe, stage: DistillStage, parameters: float) -> Work:
    sequences = (stage.steps or 0) * stage.batch_rows
    sampled = _sampling(sequences, stage.max_tokens, parameters)
    teacher = _shape_after(recipe, stage.teacher)
    tokens = sampled.generated_tokens
    forward = 2 * (teacher.run if teacher else 0.0)
    return Work(
        generated_tokens=tokens,
        trained_tokens=tokens,
        generate_flops=sampled.generate_flops,
        train_flops=(_train_flops(stage) * parameters + forward) * tokens,
    )


def _sampling(sequences: float, max_tokens: int, parameters: float) -> Work:
    tokens = sequences * FILL * max_tokens
    prompts = sequences * _prompt_tokens(max_tokens)
    return Work(generated_tokens=tokens, generate_flops=2 * parameters * (tokens + prompts))


def _prompt_tokens(max_tokens: int) -> float:
    return min(PROMPT_TOKENS, FILL * max_tokens)


def _train_flops(stage: Training) -> int:
    """Per parameter and token: 2 forward, 4 backward, 2 more where activations are recomputed."""
    return 8 if stage.gradient_checkpointing else 6


def _hours(work: Work, hardware: Hardware, *, device: str) -> float:
    """Generation and training one after the other, each on all of its devices."""
    speed = SPEEDS[device]
    trainers, generators = hardware.ranks, hardware.engines * hardware.gpus_per_engine
    if device == "cpu":
        trainers = hardware.ranks * hardware.threads_per_rank
        generators = hardware.engines * hardware.threads_per_engine
    generating = max(
        work.generate_flops / (generators * speed.generate_flops_per_s),
        work.generated_tokens / (hardware.engines * speed.max_tokens_per_s),
    )
    return (generating + work.train_flops / (trainers * speed.train_flops_per_s)) / 3600


def _memory_gib(recipe: Recipe, name: str, stage: Stage, parameters: float) -> float | None:
    dtype = recipe.model.dtype
    if isinstance(stage, DepthStage) and stage.joint is not None:
        held = optimizer_bytes(parameters, sharding="none", ranks=1, dtype=dtype)
        return (held + parameters * (2 if dtype == "bfloat16" else 4)) / GIB
    if not isinstance(stage, Training):
        return None
    hardware = recipe.hardware
    held = optimizer_bytes(
        parameters, sharding=hardware.sharding, ranks=hardware.ranks, dtype=dtype
    )
    if isinstance(stage, GrpoStage) and stage.kl:
        sharers = hardware.ranks if hardware.sharding == "zero3" else 1
        held += parameters * (2 if dtype == "bfloat16" else 4) / sharers
    return held / GIB


def _kv_gib(recipe: Recipe, stage: Stage, shape: ModelShape | None, *, device: str) -> float | None:
    if not isinstance(stage, GrpoStage | RejectStage | EvaluateStage | DepthStage):
        return None
    if shape is None or shape.kv_values is None:
        return None
    size = 2 if recipe.model.dtype == "bfloat16" else 4
    sequences = recipe.hardware.max_sequences_per_engine
    return sequences * (stage.max_tokens + PROMPT_TOKENS) * shape.kv_values * size / GIB


def _shape_after(recipe: Recipe, name: str) -> ModelShape | None:
    """The model that a stage makes or uses; `base` is the recipe's."""
    stage = recipe.stages.get(name)
    match stage:
        case None | EvaluateStage():
            return shape_of(recipe.model)
        case DistillStage():
            return shape_of(stage.student)
        case RejectStage():
            return _shape_after(recipe, stage.policy)
        case ExportStage():
            return _shape_after(recipe, stage.model)
        case _:
            return _shape_after(recipe, stage.init)


def _rows(recipe: Recipe, reference: str) -> float:
    """Rows of a prompts entry, or of a harvest."""
    name = reference.partition(".")[0]
    stage = recipe.stages.get(name)
    if isinstance(stage, RejectStage):
        prompts = stage.size or _rows(recipe, stage.prompts)
        return prompts * stage.keep_per_prompt * KEPT
    return _source_rows(recipe.prompts[name])


def _source_rows(source: PromptSource) -> float:
    if source.size is not None:
        return source.size
    path = resolve_data(source.file) if source.file else None
    if path is None or not path.is_file():
        return UNKNOWN_ROWS
    with path.open("rb") as stream:
        return sum(1 for line in stream if line.strip())


def _total(values: Iterator[float | None]) -> float | None:
    found = list(values)
    known = [value for value in found if value is not None]
    return sum(known) if len(known) == len(found) else None


def _si(value: float) -> str:
    """1.5e9 as `1.5 G`."""
    for power, letter in ((1e18, "E"), (1e15, "P"), (1e12, "T"), (1e9, "G"), (1e6, "M")):
        if value >= power:
            return f"{value / power:g} {letter}"
    return f"{value:g} "
