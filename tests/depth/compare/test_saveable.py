"""What no choice of depths can save."""

import pytest

from pipeline.depth.compare.saveable import max_saving
from pipeline.recipe.depth_stage import DepthStage
from pipeline.records import Rollout
from pipeline.recurrent.request import DepthRequest
from pipeline.recurrent.shape import RecurrentShape, iteration_flops, rollout_flops

SPEC = DepthStage.model_validate(
    {
        "kind": "depth", "prompts": "t", "calibration": "t", "held_out": "t", "max_depth": 4,
        "prompt_depth": 2, "max_tokens": 9,
    }
)  # fmt: skip
SHAPE = RecurrentShape(
    hidden=8,
    mlp=16,
    heads=2,
    kv_heads=2,
    head_size=4,
    prelude=1,
    core=1,
    coda=1,
    vocabulary=10,
    injection="none",
    num_iterations=4,
    max_iterations=4,
)


def test_only_iterations_beyond_the_first_can_be_saved() -> None:
    full = rollout_flops(
        SHAPE,
        prompt_tokens=3,
        depths=[4, 4],
        request=DepthRequest(depth=4, prompt_depth=2),
    )
    rollout = Rollout(
        prompt_id="p",
        sample=0,
        seed=0,
        prompt_tokens=(1, 2, 3),
        tokens=(4, 5),
        logprobs=(0.0, 0.0),
        stop="eos",
        weight_version=0,
        depths=(4, 4),
        flops=full,
    )
    more = 3 * (iteration_flops(SHAPE, context=3) + iteration_flops(SHAPE, context=4))
    assert max_saving([rollout, rollout], SHAPE, SPEC) == pytest.approx(more / full)
