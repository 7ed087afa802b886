"""The stages, by kind. A stage is a function of its plan and its surroundings."""

from collections.abc import Callable, Mapping

from pipeline.plan import StagePlan
from pipeline.stages import depth, distill, evaluate, export, grpo, reject, reward_model, sft
from pipeline.stages.context import Output, RunContext

STAGES: Mapping[str, Callable[[StagePlan, RunContext], Output]] = {
    "sft": sft.run,
    "grpo": grpo.run,
    "reject": reject.run,
    "reward_model": reward_model.run,
    "distill": distill.run,
    "depth": depth.run,
    "evaluate": evaluate.run,
    "export": export.run,
}
