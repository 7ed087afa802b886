"""How much of an answer's compute any choice of depths can save. Pure."""

from collections.abc import Sequence

from pipeline.recipe.depth_stage import DepthStage
from pipeline.records import Rollout
from pipeline.recurrent.request import DepthRequest
from pipeline.recurrent.shape import RecurrentShape, rollout_flops


def max_saving(rollouts: Sequence[Rollout], shape: RecurrentShape, spec: DepthStage) -> float:
    """Share of full-depth answers' FLOPs that iterate completion tokens beyond depth 1.

    The rest, the prompt, prelude, first iteration, coda and head, runs whatever is chosen.
    """
    shallow = DepthRequest(depth=1, prompt_depth=spec.prompt_depth)
    least = sum(
        rollout_flops(
            shape,
            prompt_tokens=len(rollout.prompt_tokens),
            depths=[1] * len(rollout.tokens),
            request=shallow,
        )
        for rollout in rollouts
    )
    return 1 - least / sum(rollout.flops for rollout in rollouts)
