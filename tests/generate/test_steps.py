"""The steps of a GRPO stage: groups that stop early are cut short, and are else the same."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from pipeline.generate.journal import Journal, StepRollouts
from pipeline.generate.steps import GrpoRollouts
from pipeline.recipe.grpo_stage import GrpoStage
from pipeline.records import Prompt, Request
from rewards.api import Sample

SAMPLES = 6


def answer(request: Request) -> str:
    """Prompt 3n is never right, 3n + 1 always; the seed decides of the others."""
    text = "".join(chr(t) for t in request.prompt_tokens).removeprefix("say ")
    kind = int(text) % 3
    return text if kind == 1 or (kind == 2 and request.seed % 3 == 0) else "no"


def correct(sample: Sample) -> float:
    return float(sample.completion == sample.gold)


def spec_of(**changes: Any) -> GrpoStage:
    keys: dict[str, Any] = {
        "prompts_per_step": 8,
        "samples_per_prompt": SAMPLES,
        "resample_rounds": 2,
        **changes,
    }
    return GrpoStage(
        kind="grpo", prompts="train", rewards=["answer"], steps=20, max_tokens=8, **keys
    )


@pytest.fixture
def make_step(
    make_service: Callable[..., Any], tmp_path: Path
) -> Callable[..., tuple[StepRollouts, list[Request]]]:
    """The rollouts of one step, and all that was asked of the engine for them."""

    def make(
        *, size: int, seed: int, step: int, **changes: Any
    ) -> tuple[StepRollouts, list[Request]]:
        service, (engine,) = make_service(answer, correct)
        prompts = [Prompt(id=f"p{i}", question=f"say {i}", answer=str(i)) for i in range(size)]
        folder = tmp_path / str(len([*tmp_path.iterdir()]))
        rollouts = GrpoRollouts(
            service,
            Journal(folder),
            spec_of(**changes),
            prompts,
            seed=seed,
            preference=None,
            watch=(),
            watch_reward="answer",
        )
        return rollouts.step(step), engine.requests

    return make


@settings(
    max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(
    size=st.integers(3, 60),
    seed=st.integers(0, 2**31),
    step=st.integers(0, 9),
    first=st.integers(2, 5),
)
def test_groups_that_stop_early_are_cut_short_and_else_the_same(
    make_step: Any, *, size: int, seed: int, step: int, first: int
) -> None:
    made, asked = make_step(size=size, seed=seed, step=step, first_samples=first)
    assert all(len(group.samples) == SAMPLES for group in made.groups)
    by_name = {(r.group, r.sample): r for r in asked}
    assert len(by_name) == len(asked)  # nothing is made twice
    _, whole = make_step(size=size, seed=seed, step=step)
    common = {(r.group, r.sample): r for r in whole}.keys() & by_name.keys()
    assert all(by_name[key] in whole for key in common)
    counts = [sum(r.group == name for r in asked) for name in {r.group for r in asked}]
    assert set(counts) <= {first, SAMPLES}
    assert made.metrics["stopped_groups"] == counts.count(first)


def test_a_group_stops_where_its_first_rewards_are_equal(make_step: Any) -> None:
    """A third is never right and a third always: what else is drawn for them is left out."""
    made, asked = make_step(size=60, seed=7, step=0, first_samples=3)
    _, whole = make_step(size=60, seed=7, step=0)
    assert made.metrics["stopped_groups"] > 0
    assert len(asked) < len(whole)


def test_without_replacements_a_stopped_group_is_completed(make_step: Any) -> None:
    """Eight prompts and no others: the batch is filled by groups that had stopped."""
    made, asked = make_step(size=8, seed=7, step=0, first_samples=2)
    assert {len(group.samples) for group in made.groups} == {SAMPLES}
    assert len(asked) == 8 * SAMPLES
    assert made.metrics["stopped_groups"] == 0


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"first_samples": SAMPLES}, "first_samples=6 must be less than samples_per_prompt=6"),
        ({"first_samples": 1}, "greater than or equal to 2"),
        ({"first_samples": 2, "resample_rounds": 0}, "give resample_rounds at least 1"),
    ],
)
def test_first_samples_that_make_no_sense(changes: dict[str, Any], says: str) -> None:
    with pytest.raises(ValueError, match=says):
        spec_of(**changes)
