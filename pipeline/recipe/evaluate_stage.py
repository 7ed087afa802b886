"""`kind: evaluate`: accuracy on held-out prompts."""

from collections.abc import Mapping
from typing import Any, ClassVar, Literal

from pydantic import Field, PositiveInt, model_validator

from pipeline.recipe.section import Strict
from pipeline.recipe.stage_base import ENGINE_KEYS, Input, Product, StageBase
from pipeline.recipe.stage_work import UNKNOWN, Lengths, Sampled, Work

Effort = Literal["low", "medium", "high"]


class Explore(Strict):
    """Exploration in latent space: after its first iteration each generated token goes on as
    several noisy paths, of which the one is left that the model's "right already?" head finds
    likeliest to be right, or in a model without one, whose next token is surest. What all paths
    cost is in the FLOPs. For recurrent models and the native engine."""

    paths: PositiveInt
    """States that a token goes on with, the undisturbed one among them; 1: no exploration."""
    noise: float = Field(ge=0.0, allow_inf_nan=False)
    """Standard deviation of what is added to a path's state before each iteration, as a share of
    the state's own root mean square."""
    keep: float = Field(default=0.5, gt=0.0, le=1.0)
    """Share of the paths that goes on after an iteration, two at least; 1: all, and the last
    iteration decides. Successive halving (arXiv 1502.07943)."""


class EvaluateStage(StageBase):
    """pass@1 and pass@k with 95 % confidence intervals on held-out prompts.

    Recurrent models run at their own number of iterations, or at one of `effort`, `budget` (both
    of a depth stage's calibration) and `depth`.
    """

    product: ClassVar[Product] = "report"
    uses_engines: ClassVar[bool] = True
    hardware_keys: ClassVar[tuple[str, ...]] = ENGINE_KEYS
    silent_keys: ClassVar[frozenset[str]] = frozenset({"explore"})

    kind: Literal["evaluate"]
    """Accuracy on held-out prompts."""
    models: list[str]
    """The models: `base` or stages."""
    prompts: str
    """Prompts entry that nothing was learned from."""
    reward: str = "answer"
    """Name under `rewards:`; 1 is correct."""
    samples_per_prompt: PositiveInt = 4
    """Completions of a prompt. Ours; R1: 4 to 64 by test size."""
    pass_k: list[PositiveInt] = Field(default_factory=lambda: [1])
    """Report the share of prompts solved by one of k samples, for each k."""
    temperature: float = Field(default=0.6, ge=0.0)
    """Sampling temperature; 0: the likeliest token each time. R1."""
    top_p: float = Field(default=0.95, gt=0.0, le=1.0)
    """Share of probability that is sampled from. R1."""
    max_tokens: PositiveInt = 32768
    """Tokens of a completion. R1."""
    effort: Effort | None = None
    """Effort of a calibrated recurrent model; default: its own number of iterations."""
    budget: float | None = Field(default=None, gt=0.0, le=1.0)
    """Mean iterations of a calibrated recurrent model, as a share of its full depth."""
    depth: PositiveInt | None = None
    """Iterations of every token of a recurrent model."""
    explore: Explore | None = None
    """Several noisy paths of each token's state, of which one is left; default: one path."""

    @model_validator(mode="after")
    def _check(self) -> "EvaluateStage":
        depths = {"effort": self.effort, "budget": self.budget, "depth": self.depth}
        written = [key for key, value in depths.items() if value is not None]
        if len(written) > 1:
            raise ValueError(f"give one of {' and '.join(written)}: each decides the depth")
        if self.explore is not None and self.depth == 1:
            raise ValueError(
                "explore needs a depth of at least 2 (now 1): paths part after the first iteration"
            )
        if max(self.pass_k) > self.samples_per_prompt:
            raise ValueError(
                f"pass_k={max(self.pass_k)} needs at least as many samples_per_prompt "
                f"(now {self.samples_per_prompt})"
            )
        return self

    def inputs(self) -> tuple[Input, ...]:
        return (
            *(Input.of("model", model) for model in self.models),
            Input.of("prompts", self.prompts),
        )

    def reward_names(self) -> tuple[str, ...]:
        return (self.reward,)

    @property
    def longest_completion(self) -> int:
        return self.max_tokens

    def work(self, rows: Mapping[str, float], *, lengths: Lengths = UNKNOWN) -> Work:
        sequences = rows[self.prompts] * self.samples_per_prompt
        return Work(
            sampled=tuple(
                Sampled(
                    sequences=sequences,
                    max_tokens=self.max_tokens,
                    model=model,
                    lengths=lengths,
                    samples=self.samples_per_prompt,
                )
                for model in self.models
            )
        )

    def as_evaluation(self) -> Mapping[str, Any] | None:
        return self.model_dump()
