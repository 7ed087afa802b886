"""What the driver tells the rollout service's process. Plain data."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from pipeline.generate.priced_depths import PricedDepths
from pipeline.generate.service import RewardUse
from pipeline.recipe.grpo_stage import GrpoStage
from pipeline.records import Message, Prompt


@dataclass(frozen=True, kw_only=True)
class ServiceSetup:
    """What one stage needs of the rollout service."""

    model: Path
    rewards: tuple[RewardUse, ...]
    preface: Mapping[str, Sequence[Message]]
    base: Path
    verifier_workers: int


@dataclass(frozen=True, kw_only=True)
class PreferenceSetup:
    """A reward model that joins the reward in the last fraction of the steps."""

    model: Path
    name: str
    weight: float
    last_fraction: float


@dataclass(frozen=True, kw_only=True)
class GrpoSetup:
    """What the service needs to serve one GRPO stage."""

    spec: GrpoStage
    prompts: tuple[Prompt, ...]
    journal: Path
    seed: int
    preference: PreferenceSetup | None
    watch: tuple[Prompt, ...]
    watch_reward: str
    depths: PricedDepths | None = None  # of every completion; default: the model's own
