"""The whole recipe schema: what a user may write, with defaults, and nothing that loads torch.

Defaults marked R1 are DeepSeek-R1's (Nature 2025; arXiv 2501.12948v2); those marked "ours" fill
places where the paper is silent.
"""

from typing import Annotated, Literal

from pydantic import Field

from pipeline.recipe.depth_stage import DepthStage
from pipeline.recipe.distill_stage import DistillStage
from pipeline.recipe.evaluate_stage import EvaluateStage
from pipeline.recipe.export_stage import ExportStage
from pipeline.recipe.grpo_stage import GrpoStage
from pipeline.recipe.hardware import Hardware
from pipeline.recipe.model_source import ModelSource
from pipeline.recipe.prompt_source import PromptSource
from pipeline.recipe.reject_stage import RejectStage
from pipeline.recipe.reward_model_stage import RewardModelStage
from pipeline.recipe.reward_spec import RewardSpec
from pipeline.recipe.section import Strict
from pipeline.recipe.sft_stage import SftStage

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
    """A whole run: the model it starts from, its data, its rewards and its stages."""

    name: str = Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$")
    """Names the run folder: letters, digits, `.`, `_` and `-`."""
    seed: int = 7
    """Every random choice follows from it."""
    model: ModelSource
    """The model that the flow starts from; stages call it `base`."""
    prompts: dict[str, PromptSource] = Field(default_factory=dict)
    """Questions by a name of yours."""
    rewards: dict[str, RewardSpec] = Field(default_factory=dict)
    """What judges completions, by a name of yours."""
    stages: dict[str, Stage]
    """What is done, by a name of yours; inputs decide the order."""
    hardware: Hardware = Hardware()
    """What the run may use."""
    report_to: list[Literal["tensorboard", "wandb", "trackio"]] = Field(default_factory=list)
    """Trackers that get the metrics too."""

    @property
    def has_reward_model(self) -> bool:
        """Whether a stage is rewarded by a reward model, which scores in a process of its own."""
        roles = {item.role for stage in self.stages.values() for item in stage.inputs()}
        return "reward_model" in roles
