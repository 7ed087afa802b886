"""What cannot fit is one sentence with numbers and what would."""

from typing import Any

from pipeline.plan.memory_mistakes import memory_mistakes, scorer_mistakes
from pipeline.recipe.schema import Recipe
from tests.plan.plans import GRPO, recipe_with

QWEN = {"hub": "Qwen/Qwen2.5-1.5B", "dtype": "bfloat16"}
LONG = {**GRPO, "max_tokens": 4096, "micro_batch_rows": 8}


def planned(stage: dict[str, Any], *, model: Any = QWEN, **hardware: Any) -> Recipe:
    return recipe_with({"a": stage}, model=model, hardware={"device": "cuda", **hardware})


def mistakes(stage: dict[str, Any], **more: Any) -> list[str]:
    recipe = planned(stage, **more)
    return list(memory_mistakes(recipe, "a", recipe.stages["a"], device="cuda"))


def test_a_trainer_that_does_not_fit_says_what_would() -> None:
    (text,) = mistakes(LONG, ranks=4, sharding="zero2")
    assert text.startswith("stages.a: a trainer needs 16")
    assert "(activations 100" in text
    assert "a GPU has 80 (hardware.gpu_memory_gib)" in text
    assert text.partition("; ")[2].startswith("micro_batch_rows: 2: 50")


def test_what_is_proposed_fits() -> None:
    assert mistakes({**LONG, "micro_batch_rows": 2}, ranks=4, sharding="zero2") == []


def test_states_that_do_not_fit_are_sharded() -> None:
    seven = {"hub": "Qwen/Qwen2.5-7B", "dtype": "bfloat16"}
    (text,) = mistakes({**LONG, "micro_batch_rows": 1}, model=seven, ranks=8)
    assert "hardware.sharding: zero3" in text
    (text,) = mistakes({**LONG, "micro_batch_rows": 1}, model=seven, ranks=1, gpu_memory_gib=24)
    assert "take more ranks or a smaller model" in text
    (text,) = mistakes(LONG, model=seven, ranks=2, sharding="fsdp2", gpu_memory_gib=24)
    assert "hardware.sharding: fsdp2 and hardware.ranks: 4" in text
    assert "zero3" not in text


def test_a_larger_gpu_is_believed() -> None:
    assert mistakes(LONG, ranks=4, sharding="zero2", gpu_memory_gib=192) == []


def test_an_engine_without_room_for_a_sequence() -> None:
    small = {**GRPO, "max_tokens": 30_000, "micro_batch_rows": 1, "gradient_checkpointing": True}
    found = mistakes(small, ranks=4, sharding="zero3", gpu_memory_gib=5)
    assert "keys and values of one sequence of 30,000 tokens" in found[-1]
    assert "raise hardware.gpus_per_engine" in found[-1]


def test_a_trainer_and_an_engine_on_one_gpu() -> None:
    small = {**GRPO, "max_tokens": 1024, "micro_batch_rows": 1}
    both: dict[str, Any] = {"layout": "colocated", "gpu_memory_gib": 80}
    (text,) = mistakes(small, **both)  # with the usual 0.85 for the engine
    assert text.startswith("stages.a: while its engine samples a trainer holds 24.0 GiB")
    most = float(text.rpartition("set it to ")[2].removesuffix(" at most"))
    assert mistakes(small, gpu_memory_fraction=most, **both) == []
    assert mistakes(small, gpu_memory_fraction=most + 0.01, **both) != []
    assert mistakes(small, gpu_memory_gib=80) == []  # on GPUs of their own
    (trainer, *_) = mistakes(LONG, gpu_memory_fraction=0.5, **both)
    assert "a GPU has 80 (hardware.gpu_memory_gib), of which a sleeping engine holds 1;" in trainer


def test_a_reward_model_has_one_gpu() -> None:
    stage = {"kind": "reward_model", "pairs": "train"}
    recipe = planned(stage, model={"hub": "Qwen/Qwen2.5-14B", "dtype": "bfloat16"})
    assert list(scorer_mistakes(recipe, device="cuda")) == []
    recipe = planned(stage, model=QWEN, gpu_memory_gib=2)
    (text,) = scorer_mistakes(recipe, device="cuda")
    assert "weights take 2.9 GiB" in text


def test_a_cpu_is_not_asked() -> None:
    recipe = planned(LONG, gpu_memory_gib=1)
    assert list(memory_mistakes(recipe, "a", recipe.stages["a"], device="cpu")) == []
