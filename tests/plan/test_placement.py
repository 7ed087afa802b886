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


def test_colocated_engines_take_no_gpus_of_their_own() -> None:
    hardware = {"device": "cuda", "ranks": 12, "engines": 12, "layout": "colocated"}
    recipe = recipe_with({"a": GRPO}, hardware=hardware)
    placement = placement_of(recipe, device="cuda")
    assert (placement.nodes, placement.gpus) == (2, 8)
    assert placement.slots >= 1 + 2 * 8  # the service, and two processes a GPU
    assert mistakes(ranks=12, engines=12, layout="colocated") == []


@pytest.mark.parametrize(
    ("hardware", "words"),
    [
        ({"ranks": 2}, "2 trainer(s) share their GPUs with as many engines, not 1"),
        ({"gpus_per_engine": 2}, "set hardware.gpus_per_engine: 1"),
        ({"engine": "native"}, "set engine: vllm"),
    ],
)
def test_who_cannot_share_a_gpu_is_told_so(hardware: dict[str, Any], words: str) -> None:
    (sentence,) = mistakes(layout="colocated", **hardware)
    assert words in sentence


def test_colocated_processes_take_turns_on_gpus() -> None:
    ahead = recipe_with({"a": {**GRPO, "ahead": 1}}, hardware={"layout": "colocated"})
    (sentence,) = placement_mistakes(ahead, device="cuda")
    assert "stages.a.ahead has both at work; set ahead: 0" in sentence
    (sentence,) = placement_mistakes(ahead, device="cpu")
    assert "is for GPUs" in sentence
