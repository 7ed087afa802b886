"""How fast devices are taken to be, and how long a stage's work takes at that. Pure.

CPU: shares of the speed of matrix products, which `stepwell doctor` measures. On two threads of an
AMD EPYC core (153 GFLOP/s) steps of SmolLM2-135M trained at 36 to 94 GFLOP/s, and vLLM sampled 350
tokens a second of 64 sequences, which is 94 GFLOP/s (tests/bench/README.md).
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace

from pipeline.recipe.hardware import Hardware


@dataclass(frozen=True, kw_only=True)
class Speed:
    """Assumed sustained rates of one device: a GPU, or one CPU thread."""

    name: str
    matmul_flops_per_s: float
    train_share: float  # of it that training reaches
    generate_share: float  # of it that sampling reaches
    max_tokens_per_s: float  # of one engine, however small the model
    sync_bytes_per_s: float  # of weights to the engines
    sync_s: float  # of a step besides: processes that ask each other
    start_s: float  # of a stage, and of each further model that it samples from
    run_s: float  # of a run, before its first stage

    @property
    def train_flops_per_s(self) -> float:
        return self.matmul_flops_per_s * self.train_share

    @property
    def generate_flops_per_s(self) -> float:
        return self.matmul_flops_per_s * self.generate_share


SPEEDS: Mapping[str, Speed] = {
    "cpu": Speed(
        name="CPU thread, float32",
        matmul_flops_per_s=75e9,
        train_share=0.5,
        generate_share=0.6,
        max_tokens_per_s=7_500,
        sync_bytes_per_s=1.4e9,  # 442 MiB in 0.32 s, tests/bench/weight_sync.py
        sync_s=0.25,
        start_s=4.0,
        run_s=15.0,
    ),
    # Assumed, not measured here: of an H100's 989 TFLOP/s.
    "cuda": Speed(
        name="H100-class GPU, bfloat16",
        matmul_flops_per_s=989e12,
        train_share=0.35,
        generate_share=0.08,
        max_tokens_per_s=30_000,
        sync_bytes_per_s=10e9,
        sync_s=0.25,
        start_s=60.0,
        run_s=120.0,
    ),
}


@dataclass(frozen=True, kw_only=True)
class Load:
    """What a stage computes: tokens and FLOPs, generating, scoring by a model and training."""

    generated_tokens: float
    trained_tokens: float
    generate_flops: float
    score_flops: float
    train_flops: float
    models: int = 1  # that are sampled from, one after the other
    synced_bytes: float = 0.0  # of weights, over all steps
    syncs: float = 0.0  # steps that send them


@dataclass(frozen=True, kw_only=True)
class Seconds:
    """What the parts of a stage take, one after the other or training beside generation."""

    generating: float
    scoring: float
    syncing: float
    training: float
    starting: float
    overlaps: bool = False

    @property
    def total(self) -> float:
        sampling = self.generating + self.scoring
        both = max(sampling, self.training) if self.overlaps else sampling + self.training
        return self.starting + self.syncing + both


def speed_of(device: str, *, matmul_gflops: float | None = None) -> Speed:
    """The assumed speed of a device; `matmul_gflops` of a CPU thread where it is known."""
    speed = SPEEDS[device]
    if matmul_gflops is None or device != "cpu":
        return speed
    return replace(speed, matmul_flops_per_s=matmul_gflops * 1e9)


def devices_of(hardware: Hardware, *, device: str) -> tuple[int, int]:
    """Devices that train and devices that generate: GPUs, or CPU threads."""
    if device != "cpu":
        return hardware.ranks, hardware.engines * hardware.gpus_per_engine
    return hardware.ranks * hardware.rank_threads, hardware.engines * hardware.engine_threads


def seconds_of(
    load: Load, hardware: Hardware, *, speed: Speed, device: str, overlaps: bool
) -> Seconds:
    """A reward model has the devices of one engine, and reads as fast as a trainer."""
    trainers, generators = devices_of(hardware, device=device)
    works = load.generated_tokens or load.trained_tokens
    return Seconds(
        generating=max(
            load.generate_flops / (generators * speed.generate_flops_per_s),
            load.generated_tokens / (hardware.engines * speed.max_tokens_per_s),
        ),
        scoring=load.score_flops / (generators / hardware.engines * speed.train_flops_per_s),
        syncing=load.synced_bytes / speed.sync_bytes_per_s + load.syncs * speed.sync_s,
        training=load.train_flops / (trainers * speed.train_flops_per_s),
        starting=speed.start_s * load.models if works else 0.0,
        overlaps=overlaps,
    )


def assumption(speed: Speed, *, device: str) -> str:
    """The rates in a sentence."""
    text = (
        f"{speed.name}: {si(speed.train_flops_per_s)}FLOP/s training, "
        f"{si(speed.generate_flops_per_s)}FLOP/s generating, at most "
        f"{speed.max_tokens_per_s:,.0f} tokens/s per engine"
    )
    if device != "cpu":
        return text
    return (
        f"{text}: shares of {si(speed.matmul_flops_per_s)}FLOP/s of matrix products, which "
        "`stepwell doctor` measures (--matmul-gflops gives its figure)"
    )


def si(value: float) -> str:
    """1.5e9 as `1.5 G`.

    >>> si(33.75e9)
    '33.8 G'
    """
    for power, letter in ((1e18, "E"), (1e15, "P"), (1e12, "T"), (1e9, "G"), (1e6, "M")):
        if value >= power:
            return f"{value / power:.3g} {letter}"
    return f"{value:.3g} "
