"""Nodes that a run asks for, and placements that do not hold."""

from typing import Any

import pytest

from pipeline.plan.placement import placement_mistakes, placement_of
from tests.plan.plans import GRPO, r1, recipe_with


def mistakes(**hardware: Any) -> list[str]:
    recipe = recipe_with({"a": GRPO}, hardware={"device": "cuda", **hardware})
    return list(placement_mistakes(recipe, device="cuda"))


@pytest.mark.parametrize(
    ("hardware", "nodes", "gpus"),
    [
        ({}, 1, 2),
        ({"ranks": 4, "engines": 4}, 1, 8),
        ({"ranks": 5, "engines": 4}, 2, 8),
        ({"ranks": 1, "engines": 3, "gpus_per_engine": 4}, 2, 8),
        ({"ranks": 4, "engines": 3, "gpus_per_engine": 3}, 2, 8),
        ({"ranks": 1, "engines": 3, "gpus_per_engine": 3, "gpus_per_node": 4}, 3, 4),
    ],
)
def test_engines_lie_whole_in_a_node(hardware: dict[str, Any], nodes: int, gpus: int) -> None:
    recipe = recipe_with({"a": GRPO}, hardware={"device": "cuda", **hardware})
    placement = placement_of(recipe, device="cuda")
    assert (placement.nodes, placement.gpus) == (nodes, gpus)


def test_a_reward_model_has_a_gpu() -> None:
    recipe = r1(hardware={"device": "cuda", "ranks": 4, "engines": 4})
    assert placement_of(recipe, device="cuda").nodes == 2


def test_what_does_not_fit_is_one_sentence() -> None:
    (over,) = mistakes(ranks=8, engines=4, nodes=1)
    assert "need 12 GPUs, and 1 node(s) of 8 have fewer" in over
    assert over.endswith("raise hardware.nodes to 2")
    (split,) = mistakes(gpus_per_engine=16)
    assert "tensor parallel stays inside a node" in split
    (room,) = mistakes(ranks=1, engines=3, gpus_per_engine=5, nodes=2)
    assert "no room for them" in room
    assert room.endswith("to 3")


def test_what_fits_is_no_mistake() -> None:
    assert mistakes(ranks=16, engines=16, nodes=4) == []
    assert mistakes(ranks=4, engines=4, nodes=1) == []
