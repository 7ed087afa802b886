"""`kind: reject`: rejection sampling."""

from collections.abc import Mapping
from typing import ClassVar, Literal

from pydantic import PositiveFloat, PositiveInt

from pipeline.recipe.model_source import ModelSource
from pipeline.recipe.stage_base import ENGINE_KEYS, Input, Product, StageBase
from pipeline.recipe.stage_work import HARVESTED, UNKNOWN, Lengths, Sampled, Work


class RejectStage(StageBase):
    """Rejection sampling: keep completions that are correct, readable and new."""

    product: ClassVar[Product] = "harvest"
    uses_engines: ClassVar[bool] = True
    top_p: ClassVar[float] = 1.0
    hardware_keys: ClassVar[tuple[str, ...]] = ENGINE_KEYS
    removed_keys: ClassVar[Mapping[str, str]] = {
        "readable": "write language: en, or null for any; R1's other filters are always on",
        "top_p": "all of the distribution is sampled",
    }

    kind: Literal["reject"]
    """Rejection sampling."""
    policy: str
    """The model that is sampled: `base` or a stage."""
    prompts: str
    """Prompts entry to sample from."""
    rewards: list[str]
    """Names under `rewards:`; each must reach `threshold`."""
    threshold: float = 1.0
    """The least value of each reward that counts as correct."""
    samples_per_prompt: PositiveInt = 4
    """Completions of a prompt. Ours."""
    keep_per_prompt: PositiveInt = 1
    """Rows of a prompt at most. Ours."""
    temperature: PositiveFloat = 1.0
    """Sampling temperature. Ours."""
    max_tokens: PositiveInt = 32768
    """Tokens of a completion."""
    size: PositiveInt | None = None
    """Use the first so many prompts; default: all."""
    language: str | None = "en"
    """Language that the completion must be in (ISO 639-1), for nine words in ten; null: any."""

    def inputs(self) -> tuple[Input, ...]:
        return Input.of("policy", self.policy), Input.of("prompts", self.prompts)

    def reward_names(self) -> tuple[str, ...]:
        return tuple(self.rewards)

    @property
    def start(self) -> str | ModelSource:
        return self.policy

    @property
    def longest_completion(self) -> int:
        return self.max_tokens

    def work(self, rows: Mapping[str, float], *, lengths: Lengths = UNKNOWN) -> Work:
        sequences = self._prompt_count(rows) * self.samples_per_prompt
        sampled = Sampled(
            sequences=sequences,
            max_tokens=self.max_tokens,
            lengths=lengths,
            samples=self.samples_per_prompt,
        )
        return Work(sampled=(sampled,))

    def harvested_rows(self, rows: Mapping[str, float]) -> float:
        return self._prompt_count(rows) * self.keep_per_prompt * HARVESTED

    def _prompt_count(self, rows: Mapping[str, float]) -> float:
        return self.size or rows[self.prompts]
