"""Memory of a recipe's stages on its hardware: of a trainer, an engine and the scorer."""

from dataclasses import replace

from pipeline.plan.activations import Pass
from pipeline.plan.batches import batch_of
from pipeline.plan.gpu_memory import gpu_memory_gib
from pipeline.plan.memory import (
    GIB,
    EngineMemory,
    RankMemory,
    arithmetic_of,
    buffer_bytes,
    pass_gib,
    reference_bytes,
    states,
)
from pipeline.plan.model_shape import ModelShape
from pipeline.recipe.hardware import Hardware
from pipeline.recipe.schema import Stage
from pipeline.recipe.stage_base import Training
from pipeline.recipe.stage_work import Lengths, Rows

PROCESS_GIB = {"cpu": 0.6, "cuda": 1.0}
"""Of a trainer or an engine before it holds a model: on a CPU the libraries (measured), on a GPU
its context (assumed)."""
ENGINE_BATCH_TOKENS = 8192  # of a pass of vLLM, as our engine sets it
ENGINE_COPIES = {"cpu": 2.0, "cuda": 1.0}
"""Of the weights in an engine: on a CPU vLLM keeps packed ones beside them."""


def rank_memory(
    stage: Stage,
    shape: ModelShape,
    hardware: Hardware,
    *,
    dtype: str,
    device: str,
    lengths: Lengths,
) -> RankMemory | None:
    """Of one rank of a stage's trainer, when it holds most; None for a stage that trains no
    language model.

    Raises PlanError where its batch cannot be split over the ranks.
    """
    memory = stage.trainer_memory
    if memory is None:
        return None
    sharding, ranks = hardware.sharding, hardware.ranks
    adapters = None if memory.adapter_rank is None else shape.adapters(memory.adapter_rank)
    learned = shape.parameters if adapters is None else adapters
    frozen = 0.0 if adapters is None else shape.parameters
    held = states(
        learned,
        frozen=frozen,
        sharding=sharding,
        ranks=ranks,
        dtype=dtype,
        eight_bit=memory.eight_bit,
    )
    reference = 0.0
    if memory.reference:
        reference = reference_bytes(
            shape.parameters, sharding=sharding, ranks=ranks, dtype=dtype, learns=adapters is None
        )
    through = training_pass(stage, ranks=ranks, lengths=lengths)
    activations = logits = None
    if through is not None:
        arithmetic = arithmetic_of(dtype, sharding=sharding)
        recomputed = isinstance(stage, Training) and stage.gradient_checkpointing
        activations, logits = pass_gib(shape, arithmetic, through, recomputed=recomputed)
    buffers = buffer_bytes(
        shape.parameters, learned=learned, sharding=sharding, dtype=dtype, device=device
    )
    return RankMemory(
        weights=held.weights / GIB,
        gradients=held.gradients / GIB,
        optimizer=held.optimizer / GIB,
        reference=reference / GIB,
        activations=activations,
        logits=logits,
        buffers=buffers / GIB,
        process=PROCESS_GIB[device],
    )


def training_pass(stage: Stage, *, ranks: int, lengths: Lengths) -> Pass | None:
    """The largest forward pass of a rank; None where a stage has no rows or no batch.

    Padded rows are as long as their longest. Packed ones of GRPO have the room of
    `micro_batch_rows` of the longest with their prompts, filled by as many as there are
    (`pipeline.train.packed_rows`).
    """
    rows, batch = stage.training_rows(lengths), batch_of(stage, ranks=ranks)
    if rows is None or batch is None:
        return None
    if not rows.fills:
        tokens = batch.micro_rows * rows.sequences * rows.longest
        return Pass(tokens=tokens, row_tokens=rows.longest)
    room = batch.micro_rows * (rows.longest + rows.prompt)
    there = batch.micro_rows * batch.accumulation
    packed = there * rows.mean + _prompts(rows, there) * rows.prompt
    tokens = min(room, packed)
    share = rows.mean / (rows.mean + rows.prompt / rows.samples)  # of completions' tokens
    return Pass(
        tokens=tokens,
        row_tokens=rows.longest,
        prompt_tokens=rows.prompt,
        read_tokens=tokens * share if rows.whole_logits else 0.0,
    )


def _prompts(rows: Rows, there: int) -> float:
    return max(there / rows.samples, 1.0)


def engine_memory(
    shape: ModelShape, hardware: Hardware, *, dtype: str, device: str, longest: float
) -> EngineMemory:
    """Of a GPU of an engine, whose cache is what `gpu_memory_fraction` leaves, or of an engine's
    process on a CPU. `longest`: tokens of a sequence, prompt included."""
    value = 2 if dtype == "bfloat16" else 4
    over = hardware.gpus_per_engine if device == "cuda" else 1
    weights = shape.parameters * value * ENGINE_COPIES[device] / over / GIB
    sequence = None
    if shape.kv_values is not None:
        sequence = longest * shape.kv_values * value / over / GIB
    working = _working_gib(shape, hardware, value=value)
    process = PROCESS_GIB[device]
    cache = hardware.kv_cache_gib
    if device == "cuda":
        room = hardware.gpu_memory_fraction * gpu_memory_gib(hardware)
        cache = max(room - weights - working - process, 0.0)
    return EngineMemory(
        weights=weights, cache=cache, sequence=sequence, working=working, process=process
    )


def _working_gib(shape: ModelShape, hardware: Hardware, *, value: int) -> float:
    """A layer's activations of the largest pass, and logits of every sequence with their float32
    probabilities."""
    if shape.layers is None:
        return 0.0
    layers = shape.layers
    through = ENGINE_BATCH_TOKENS * (4 * layers.hidden + 2 * layers.mlp) * value
    logits = hardware.max_sequences_per_engine * layers.vocabulary * 8
    return (through + logits) / GIB


def colocated_gib(rank: RankMemory, engine: EngineMemory) -> float:
    """Of a GPU that a trainer and an engine shared by turns: what the trainer holds while the
    engine samples, or all that it needs while the engine sleeps. The cache is left out, which takes
    what there is."""
    sampling = rank.resident + engine.weights + engine.working
    return max(rank.total, sampling) + engine.process


def as_pruned(shape: ModelShape, *, words: int) -> ModelShape:
    """The shape with a vocabulary of so many words at most, one table of embeddings smaller."""
    if shape.layers is None or shape.layers.vocabulary <= words:
        return shape
    gone = (shape.layers.vocabulary - words) * shape.layers.hidden
    return replace(
        shape,
        parameters=shape.parameters - gone,
        layers=replace(shape.layers, vocabulary=words),
    )
