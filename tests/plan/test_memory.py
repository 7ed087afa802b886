"""Memory part by part, against closed forms."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.plan.activations import Pass
from pipeline.plan.estimate import stage_memory
from pipeline.plan.gpu_memory import gpu_memory_gib
from pipeline.plan.known_shapes import KNOWN
from pipeline.plan.memory import GIB, buffer_bytes, pass_gib, reference_bytes, states
from pipeline.plan.stage_memory import PROCESS_GIB, as_pruned, colocated_gib, training_pass
from pipeline.recipe.hardware import Hardware
from pipeline.recipe.stage_work import Lengths
from tests.plan.plans import GRPO, SFT, recipe_with

QWEN = {"hub": "Qwen/Qwen2.5-1.5B", "dtype": "bfloat16"}
LEVELS = ("none", "zero1", "zero2", "zero3")


def total(sharding: Any, *, ranks: int = 4, dtype: str = "bfloat16", **more: Any) -> float:
    return states(1.0, sharding=sharding, ranks=ranks, dtype=dtype, **more).total


def test_zero_shards_what_it_says() -> None:
    assert total("none") == 16
    assert total("zero1") == 2 + 2 + 12 / 4
    assert total("zero2") == 2 + 14 / 4
    assert total("zero3") == 16 / 4
    assert total("fsdp2") == total("fsdp2", dtype="float32") == 16 / 4
    assert total("none", dtype="float32") == 16
    assert total("zero2", dtype="float32") == 4 + (4 + 12) / 4  # DeepSpeed copies float32 too


@given(ranks=st.integers(1, 64))
def test_more_sharding_never_needs_more(ranks: int) -> None:
    held = [total(s, ranks=ranks) for s in LEVELS]
    assert held == sorted(held, reverse=True)


def test_adapters_alone_have_gradients_and_state() -> None:
    assert total("none", ranks=1, frozen=10.0) == 16 + 2 * 10
    assert total("zero2", ranks=2, dtype="float32", frozen=10.0) == 4 + 16 / 2 + 4 * 10
    assert total("none", ranks=1, eight_bit=True) == 4 + 4 + 2
    assert total("zero1", ranks=1, eight_bit=True) == 2 + 2 + 4 + 2


def test_a_reference_is_as_wide_as_the_weights_and_sharded_as_they_are() -> None:
    def reference(sharding: Any, dtype: str) -> float:
        return reference_bytes(8.0, sharding=sharding, ranks=4, dtype=dtype)

    assert reference("none", "bfloat16") == 32  # float32 weights under autocast
    assert reference("zero2", "bfloat16") == 16
    assert reference("zero3", "bfloat16") == 4
    assert reference("fsdp2", "bfloat16") == 8
    assert reference("zero2", "float32") == 32


def test_buffers_are_of_the_libraries_sizes() -> None:
    def buffers(sharding: Any, device: str, dtype: str = "bfloat16") -> float:
        return buffer_bytes(7e9, learned=7e9, sharding=sharding, dtype=dtype, device=device)

    assert buffers("none", "cuda") == 2 * 7e9
    assert buffers("none", "cpu", "float32") == 0
    assert buffers("zero2", "cuda") == 2 * 2 * 5e8
    assert buffers("zero3", "cuda") == 2 * (5e8 + 1e9)
    assert buffers("fsdp2", "cuda") == 2 * 7e9 / 4
    small = buffer_bytes(1e6, learned=1e6, sharding="zero2", dtype="float32", device="cpu")
    assert small == 4e6


def grpo_pass(*, ranks: int = 1, lengths: Lengths | None = None, **more: Any) -> Pass:
    stage = recipe_with({"a": {**GRPO, "max_tokens": 1000, **more}}).stages["a"]
    through = training_pass(stage, ranks=ranks, lengths=lengths or Lengths())
    assert through is not None
    return through


def test_a_packed_pass_is_as_full_as_there_are_tokens() -> None:
    many = grpo_pass(prompts_per_step=32, samples_per_prompt=16, micro_batch_rows=4)
    assert many.tokens == 4 * (1000 + 64)
    few = grpo_pass(prompts_per_step=1, samples_per_prompt=4, micro_batch_rows=4)
    assert few.tokens == 4 * 500 + 64
    assert few.read_tokens == pytest.approx(4 * 500)
    halved = grpo_pass(prompts_per_step=2, samples_per_prompt=4, micro_batch_rows=8, ranks=2)
    assert halved.tokens == few.tokens
    known = Lengths(prompt=10, completion=20, longest=40)
    told = grpo_pass(prompts_per_step=1, samples_per_prompt=4, micro_batch_rows=4, lengths=known)
    assert told.tokens == 4 * 20 + 10


def test_padded_rows_are_as_long_as_the_longest_and_pairs_are_two() -> None:
    stages = {
        "a": {**SFT, "max_tokens": 100, "micro_batch_rows": 3, "batch_rows": 3},
        "b": {"kind": "reward_model", "pairs": "train", "max_tokens": 100, "batch_rows": 2},
    }
    recipe = recipe_with(stages)
    passes = [training_pass(stage, ranks=1, lengths=Lengths()) for stage in recipe.stages.values()]
    assert [one.tokens for one in passes if one] == [300, 2 * 2 * 100]


def memory_of(**hardware: Any) -> Any:
    recipe = recipe_with(
        {"a": {**GRPO, "max_tokens": 1000, "micro_batch_rows": 1}},
        model=QWEN,
        hardware={"device": "cuda", **hardware},
    )
    return stage_memory(recipe, "a", device="cuda")


def test_an_engines_cache_is_what_its_weights_leave() -> None:
    _, engine = memory_of(gpu_memory_gib=40, gpu_memory_fraction=0.5)
    assert engine.total == pytest.approx(20)
    assert engine.weights == pytest.approx(2 * 1.544e9 / GIB)
    assert engine.sequence == pytest.approx(1064 * 2 * 28 * 2 * 128 * 2 / GIB)
    assert engine.sequences == pytest.approx(engine.cache / engine.sequence)
    _, split = memory_of(gpu_memory_gib=40, gpu_memory_fraction=0.5, gpus_per_engine=2)
    assert split.weights == engine.weights / 2
    assert split.sequence == engine.sequence / 2


def test_shared_gpus_would_hold_the_larger_of_both_turns() -> None:
    rank, engine = memory_of()
    both = colocated_gib(rank, engine)
    assert both == pytest.approx(rank.total + engine.process)
    assert both > max(rank.total, engine.weights)
    assert rank.resident + engine.weights + engine.working < rank.total


def test_the_parts_are_the_whole() -> None:
    rank, _ = memory_of()
    document = rank.document()
    whole = document.pop("total")
    assert sum(document.values()) == pytest.approx(whole)


def test_a_stated_gpu_goes_before_what_is_here() -> None:
    assert gpu_memory_gib(Hardware(gpu_memory_gib=24)) == 24
    assert gpu_memory_gib(Hardware()) > 0


def test_a_trainers_peak_is_about_what_was_measured() -> None:
    """SmolLM2 with 4,395 tokens in float32, a pass of 8 completions (441 tokens, the longest 171)
    and their prompt of 95: 2.89 GiB at most (tests/bench/README.md)."""
    shape = as_pruned(KNOWN["SmolLM2-135M"], words=4395)
    through = Pass(tokens=441 + 95, row_tokens=171, prompt_tokens=95, read_tokens=441)
    activations, logits = pass_gib(shape, "float32", through, recomputed=False)
    held = states(shape.parameters, sharding="none", ranks=1, dtype="float32").total / GIB
    assert activations is not None
    assert logits is not None
    peak = held + activations + logits + PROCESS_GIB["cpu"]
    assert peak == pytest.approx(2.89, rel=0.15)
