"""The whole recipe schema: what a user may write, with defaults, and nothing that loads torch.

Defaults marked R1 are DeepSeek-R1's (Nature 2025; arXiv 2501.12948v2); those marked "ours" fill
places where the paper is silent.
"""

from collections.abc import Iterator
from typing import Annotated, Literal

from pydantic import (
    Field,
    model_validator,
)

from pipeline.recipe.depth_stage import DepthStage
from pipeline.recipe.hardware import Hardware
from pipeline.recipe.model_source import ModelSource
from pipeline.recipe.prompt_source import PromptSource
from pipeline.recipe.reward_spec import ModelReward, RewardSpec
from pipeline.recipe.sampling_stages import EvaluateStage, ExportStage, RejectStage
from pipeline.recipe.section import Strict, listed
from pipeline.recipe.training_stages import DistillStage, GrpoStage, RewardModelStage, SftStage

Stage = Annotated[
    SftStage
    | GrpoStage
    | RejectStage
    | RewardModelStage
    | DistillStage
    | DepthStage
    | EvaluateStage
    | ExportStage,
    Field(discriminator="kind"),
]


class Recipe(Strict):
    """A whole run. `pipeline.recipe.load.load_recipe` makes one from YAML."""

    name: str = Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$")
    seed: int = 7
    model: ModelSource
    prompts: dict[str, PromptSource] = Field(default_factory=dict)
    rewards: dict[str, RewardSpec] = Field(default_factory=dict)
    stages: dict[str, Stage]
    hardware: Hardware = Hardware()
    report_to: list[Literal["tensorboard", "wandb", "trackio"]] = Field(default_factory=list)

    @model_validator(mode="after")
    def _routed(self) -> "Recipe":
        """Tell rewards which entries go by a column, and those entries which values have routes."""
        by_row = {n: s for n, s in self.prompts.items() if s.source_column is not None}
        for reward in self.rewards.values():
            reward._columns = {name: source.source_key for name, source in by_row.items()}
        for stage in self.stages.values():
            sampled = {entry for role, entry in inputs_of(stage) if role in SAMPLED_ROLES}
            for name in rewards_of(stage):
                routes = self.rewards[name].by_source if name in self.rewards else None
                for entry in sampled & set(by_row) if routes else ():
                    by_row[entry]._routes[name] = tuple(routes or ())
        return self


SAMPLED_ROLES = ("prompts", "watch", "calibration", "held_out")
"""Inputs whose completions are rewarded."""


def inputs_of(stage: Stage) -> Iterator[tuple[str, str]]:
    """(role, reference) of everything a stage reads; a reference names `base`, a stage or prompts.

    Row references keep their `PROMPTS.COLUMN` form.
    """
    match stage:
        case SftStage():
            yield "init", stage.init
            yield from (("rows", row) for row in listed(stage.rows))
        case GrpoStage():
            yield "init", stage.init
            yield "prompts", stage.prompts
            for reward in stage.rewards:
                if isinstance(reward, ModelReward):
                    yield "reward_model", reward.model
        case RejectStage():
            yield "policy", stage.policy
            yield "prompts", stage.prompts
        case RewardModelStage():
            yield "init", stage.init
            yield "pairs", stage.pairs
        case DistillStage():
            yield "teacher", stage.teacher
            yield from (("rows", row) for row in listed(stage.rows))
        case DepthStage():
            yield "init", stage.init
            yield "prompts", stage.prompts
            yield "calibration", stage.calibration
            yield "held_out", stage.held_out
            for entry in stage.pareto.transfer:
                yield "held_out", entry
            yield from (("rows", row) for row in listed(stage.rows or []))
        case EvaluateStage():
            yield from (("model", model) for model in stage.models)
            yield "prompts", stage.prompts
        case ExportStage():
            yield "model", stage.model
    if isinstance(stage, GrpoStage) and stage.watch:
        yield "watch", stage.watch.prompts


def rewards_of(stage: Stage) -> list[str]:
    """Names under `rewards:` that a stage uses."""
    match stage:
        case GrpoStage():
            return [r for r in stage.rewards if isinstance(r, str)]
        case RejectStage():
            return list(stage.rewards)
        case EvaluateStage() | DepthStage():
            return [stage.reward]
        case _:
            return []
