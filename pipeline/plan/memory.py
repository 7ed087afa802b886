"""Memory of a trainer, an engine and a scorer, part by part. Pure arithmetic, in GiB.

Model states are ZeRO's count (arXiv 1910.02054, section 3): weights, gradients, and the optimizer's
states with its float32 copy of the weights; activations are those of `pipeline.plan.activations`.
FSDP2 divides what ZeRO-3 does, and holds weights in float32; layers that run are whole in bfloat16.
"""

from dataclasses import asdict, dataclass, fields
from typing import Any

from pipeline.plan.activations import Arithmetic, Pass, activation_bytes, logit_bytes
from pipeline.plan.model_shape import ModelShape
from pipeline.recipe.hardware import DEEPSPEED, LAYERS_SHARED, Sharding

GIB = 2**30
BUCKET_VALUES = 5e8  # DeepSpeed's reduce_bucket_size, as it comes (0.19)
GATHERED_VALUES = 1e9  # DeepSpeed's stage3_max_live_parameters, as it comes
GATHERED_SHARE = (
    0.25  # of the weights, under FSDP2: the table of words, two layers, gradients; ours
)
LEVELS: dict[Sharding, int] = {"none": 0, "zero1": 1, "zero2": 2, "zero3": 3, "fsdp2": 3}


@dataclass(frozen=True, kw_only=True)
class States:
    """Bytes a rank of what a training holds from step to step."""

    weights: float
    gradients: float
    optimizer: float

    @property
    def total(self) -> float:
        return self.weights + self.gradients + self.optimizer


@dataclass(frozen=True, kw_only=True)
class RankMemory:
    """Of one trainer at its largest, GiB. `activations` and `logits` are None where the model's
    layers are not known."""

    weights: float
    gradients: float
    optimizer: float
    reference: float
    activations: float | None
    logits: float | None
    buffers: float  # of DeepSpeed, or autocast's copies of weights
    process: float  # libraries, and the GPU's context

    @property
    def total(self) -> float:
        return sum(getattr(self, part.name) or 0.0 for part in fields(self))

    @property
    def resident(self) -> float:
        """What stays between steps, while engines sample."""
        return self.weights + self.optimizer + self.reference + self.process

    def document(self) -> dict[str, Any]:
        return {**asdict(self), "total": self.total}


@dataclass(frozen=True, kw_only=True)
class EngineMemory:
    """Of one GPU of an engine, or of an engine's process on a CPU, GiB."""

    weights: float
    cache: float  # keys and values that it has room for
    sequence: float | None  # keys and values of one sequence of full length; None: unknown
    working: float  # activations of its largest pass
    process: float

    @property
    def total(self) -> float:
        return self.weights + self.cache + self.working + self.process

    @property
    def sequences(self) -> float | None:
        """Sequences of full length that it has room for."""
        return None if not self.sequence else self.cache / self.sequence

    def document(self) -> dict[str, Any]:
        return {**asdict(self), "sequences": self.sequences, "total": self.total}


def arithmetic_of(dtype: str, *, sharding: Sharding) -> Arithmetic:
    """What a trainer computes in: bfloat16 is autocast where DeepSpeed holds no weights in it."""
    if dtype != "bfloat16":
        return "float32"
    return "autocast" if sharding == "none" else "bfloat16"


def weight_bytes(dtype: str, *, sharding: Sharding, learns: bool = True) -> int:
    """Bytes of a weight in a trainer: float32 under autocast where it learns, or where it is the
    reference of weights that do."""
    narrow = dtype == "bfloat16" and (sharding in DEEPSPEED or not learns)
    return 2 if narrow else 4


def states(
    parameters: float,
    *,
    sharding: Sharding,
    ranks: int,
    dtype: str,
    frozen: float = 0.0,
    eight_bit: bool = False,
) -> States:
    """Model states of a rank under ZeRO; frozen parameters have weights alone.

    In bfloat16 under DeepSpeed weights and gradients take 2 bytes, Adam 12 with its float32 copy
    of the weights; in float32 they take 4, 4 and 8, under DeepSpeed 12, which copies those too.
    Stage 1 divides the optimizer's over the ranks, 2 the gradients too, 3 the weights too. Of 8-bit
    Adam's two averages each is a byte, not four.

    >>> states(1.0, sharding="zero2", ranks=4, dtype="bfloat16").total  # 2 + (2 + 12) / 4
    5.5
    """
    level = LEVELS[sharding]
    value = weight_bytes(dtype, sharding=sharding)
    still = weight_bytes(dtype, sharding=sharding, learns=False)
    adam = (8 if not eight_bit else 2) + (4 if sharding in DEEPSPEED else 0)
    share = [1 / ranks if level >= needs else 1.0 for needs in (3, 2, 1)]
    return States(
        weights=(parameters * value + frozen * still) * share[0],
        gradients=parameters * value * share[1],
        optimizer=parameters * adam * share[2],
    )


def reference_bytes(
    parameters: float, *, sharding: Sharding, ranks: int, dtype: str, learns: bool = True
) -> float:
    """A frozen copy of the weights, in shards where the weights are."""
    value = weight_bytes(dtype, sharding=sharding, learns=learns)
    return parameters * value / (ranks if sharding in LAYERS_SHARED else 1)


def buffer_bytes(
    parameters: float, *, learned: float, sharding: Sharding, dtype: str, device: str
) -> float:
    """What DeepSpeed sets aside for communication, as it comes: two buckets of gradients where they
    overlap with the backward pass (GPUs; on a CPU no more of one than is filled), and under ZeRO-3
    one, with the weights that are whole at a time. Under FSDP2 layers that are whole at a time,
    with their gradients. Without either autocast's bfloat16 copies of the weights that learn.
    """
    value = 2 if dtype == "bfloat16" else 4
    if sharding == "none":
        return 2.0 * learned if dtype == "bfloat16" else 0.0
    if sharding == "fsdp2":
        return GATHERED_SHARE * value * parameters
    bucket = BUCKET_VALUES if device == "cuda" else min(learned, BUCKET_VALUES)
    if sharding == "zero3":
        return value * (bucket + min(parameters, GATHERED_VALUES))
    return value * bucket * (2 if device == "cuda" else 1)


def pass_gib(
    shape: ModelShape, arithmetic: Arithmetic, through: Pass, *, recomputed: bool
) -> tuple[float | None, float | None]:
    """Activations and logits of a trainer's forward pass, GiB; None where layers are unknown."""
    if shape.layers is None:
        return None, None
    kept = activation_bytes(
        shape.layers,
        arithmetic,
        through,
        iterations=shape.iterations,
        recomputed=recomputed,
    )
    return kept / GIB, logit_bytes(shape.layers, arithmetic, through) / GIB
