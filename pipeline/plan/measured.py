"""Rates that a probe measured, in place of assumed ones. Pure.

A stage's fixed time is what its run took beyond its steps at their later pace; so the warm-up of
the first step counts as starting. What a step does beside sampling and training (verifying,
sending weights, waiting) is a time a step.
"""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from typing import Any

from pipeline.plan.speeds import Speed, devices_of
from pipeline.recipe.hardware import Hardware

USED_FOR: Mapping[str, Sequence[str]] = {
    "sft": ("sft",),
    "grpo": ("grpo",),
    "evaluate": ("evaluate",),
    "reject": ("evaluate",),
    "reward_model": ("sft",),
    "distill": ("sft",),
    "depth": ("depth",),
}
"""Kinds of stages whose rates are taken from a measured kind; the others stay assumed."""


@dataclass(frozen=True, kw_only=True)
class PartRate:
    """What a part of a stage takes: the same seconds every time, and more a completion."""

    start_s: float
    completion_s: float


@dataclass(frozen=True, kw_only=True)
class Rate:
    """What was measured of a kind of stage. None: it does not do that."""

    kind: str
    stage: str  # of the recipe, in miniature
    start_s: float  # of the stage, or of each model that it evaluates
    trained_tokens_per_s: float | None = None
    generated_tokens_per_s: float | None = None
    train_flops_per_s: float | None = None  # of all trainers, as the estimate counts FLOPs
    generate_flops_per_s: float | None = None  # of all engines, likewise
    besides_s: float = 0.0  # of a step
    completion_tokens: float | None = None  # the base's mean
    parts: Mapping[str, PartRate] = field(default_factory=dict)  # of a depth stage, by their name

    def parts_s(self, completions: Mapping[str, float], *, times: Mapping[str, float]) -> float:
        """Seconds of the parts that make so many completions, starting so many `times` (once)."""
        return sum(
            times.get(name, 1) * self.parts[name].start_s + self.parts[name].completion_s * count
            for name, count in completions.items()
            if name in self.parts and count
        )

    @property
    def sentence(self) -> str:
        """What was measured, in words."""
        parts = [f"starts in {self.start_s:.1f} s"]
        if self.generated_tokens_per_s is not None:
            parts.append(f"{self.generated_tokens_per_s:,.0f} tokens/s sampled")
        if self.trained_tokens_per_s is not None:
            parts.append(f"{self.trained_tokens_per_s:,.0f} tokens/s trained")
        if self.besides_s:
            parts.append(f"{self.besides_s:.2f} s a step besides")
        if self.completion_tokens is not None:
            parts.append(f"the base's completions {self.completion_tokens:.0f} tokens long")
        if self.parts:
            parts.append(f"its parts: {', '.join(self.parts)}")
        return f"{self.kind} (as {self.stage}): {', '.join(parts)}"


@dataclass(frozen=True, kw_only=True)
class Measured:
    """What a probe measured."""

    rates: Mapping[str, Rate]  # by kind
    run_s: float  # of a run, before, between and after its stages
    seconds: float  # that the probe took
    left_out: Mapping[str, str]  # kinds, and why

    def rate(self, kind: str) -> Rate | None:
        """The rate that a kind of stage is planned with; None: the assumed one."""
        names = USED_FOR.get(kind, ())
        return next((self.rates[name] for name in names if name in self.rates), None)

    def speed(self, kind: str, assumed: Speed, hardware: Hardware, *, device: str) -> Speed:
        """The speed of a kind of stage: `assumed` with what was measured in its place."""
        rate = self.rate(kind)
        if rate is None:
            return replace(assumed, run_s=self.run_s)
        trainers, generators = devices_of(hardware, device=device)
        each = assumed.matmul_flops_per_s
        speed = replace(
            assumed,
            run_s=self.run_s,
            start_s=rate.start_s,
            sync_bytes_per_s=float("inf"),
            sync_s=rate.besides_s,
        )
        if rate.train_flops_per_s is not None:
            speed = replace(speed, train_share=rate.train_flops_per_s / (trainers * each))
        if rate.generate_flops_per_s is not None:
            share = rate.generate_flops_per_s / (generators * each)
            speed = replace(speed, generate_share=share, max_tokens_per_s=float("inf"))
        return speed

    @property
    def sentences(self) -> tuple[str, ...]:
        """What was measured and what was not, a line each."""
        return (
            f"in {self.seconds:.0f} s: {self.run_s:.1f} s of a run outside of its stages",
            *(rate.sentence for rate in self.rates.values()),
            *(f"not {kind}: {why}" for kind, why in self.left_out.items()),
        )

    def document(self) -> dict[str, Any]:
        """For `--json`."""
        return {
            "run_s": self.run_s,
            "seconds": self.seconds,
            "rates": [asdict(rate) for rate in self.rates.values()],
            "left_out": dict(self.left_out),
        }
