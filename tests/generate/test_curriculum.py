"""The pass-rate curriculum: closed forms, its draws, and a resume that draws the same."""

from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from pipeline.generate.curriculum import DECAY, Counts, PassHistory, weighted_prompts
from pipeline.generate.journal import Journal
from pipeline.generate.service import RolloutError
from pipeline.generate.steps import GrpoRollouts
from pipeline.recipe.grpo_stage import GrpoStage
from pipeline.records import Prompt, Request
from rewards.api import Sample


def test_rates_are_means_of_a_beta_posterior_that_fades() -> None:
    history = PassHistory()
    assert history.rates() == {}
    history.add({"a": Counts(4, 4), "b": Counts(0, 4)})
    history.add({"a": Counts(1, 4)})
    rates = history.rates()
    assert rates["a"] == pytest.approx((1 + 1 + 4 * DECAY) / (2 + 4 + 4 * DECAY))
    assert rates["b"] == pytest.approx(1 / (2 + 4 * DECAY))


def test_a_prompt_that_comes_back_fades_by_the_steps_between() -> None:
    history = PassHistory()
    for counts in ({"a": Counts(4, 4)}, {}, {"a": Counts(1, 4)}, {}):
        history.add(counts)
    passed, scored = 4 * DECAY**3 + 1 * DECAY, 4 * DECAY**3 + 4 * DECAY
    assert history.rates() == {"a": pytest.approx((1 + passed) / (2 + scored))}


def test_draws_follow_the_weights(prompts: list[Prompt]) -> None:
    """One prompt of a pair: a settled one is drawn weight / (weight + 1) of the time."""
    pair, rates = prompts[:2], {prompts[0].id: 0.99}
    draws = [
        weighted_prompts(pair, rates, seed=1, step=s, attempt=0, count=1, used=frozenset())
        for s in range(4000)
    ]
    share = Counter(draw[0].id for draw in draws)[prompts[0].id] / len(draws)
    assert share == pytest.approx(0.1 / 1.1, abs=0.02)


def test_draws_are_different_prompts_that_were_not_used(prompts: list[Prompt]) -> None:
    used = frozenset(p.id for p in prompts[:30])
    options = {"seed": 1, "step": 2, "attempt": 0, "used": used}
    ids = [p.id for p in weighted_prompts(prompts, {}, count=20, **options)]
    assert sorted(ids) == sorted(p.id for p in prompts[30:])
    assert ids[:4] == [p.id for p in weighted_prompts(prompts, {}, count=4, **options)]


def hard_or_easy(request: Request) -> str:
    """Prompts under 30 are always right; the others by half."""
    number = "".join(chr(t) for t in request.prompt_tokens).removeprefix("say ")
    return number if int(number) < 30 or request.sample % 2 else "no"


def right(sample: Sample) -> float:
    return float(sample.completion == sample.gold)


def rollouts_of(
    make_service: Callable[..., Any], folder: Path, prompts: list[Prompt], **keywords: Any
) -> GrpoRollouts:
    service, _ = make_service(hard_or_easy, right)
    spec = GrpoStage(
        kind="grpo", prompts="train", rewards=["answer"], steps=12, max_tokens=8,
        prompts_per_step=4, samples_per_prompt=4, resample_rounds=1, **keywords,
    )  # fmt: skip
    options = {"seed": 5, "preference": None, "watch": (), "watch_reward": "answer"}
    return GrpoRollouts(service, Journal(folder), spec, prompts, **options)


@pytest.mark.parametrize("ahead", [0, 1])
def test_settled_prompts_are_replaced_less_often_and_a_resume_draws_the_same(
    make_service: Callable[..., Any], prompts: list[Prompt], tmp_path: Path, ahead: int
) -> None:
    alike = rollouts_of(make_service, tmp_path / "alike", prompts)
    whole = rollouts_of(make_service, tmp_path / "a", prompts, curriculum=True, ahead=ahead)
    flat = [
        sum(steps.step(i).metrics["zero_variance_share"] for i in range(6, 12))
        for steps in (alike, whole)
        for _ in [[steps.step(i) for i in range(6)]]
    ]
    assert flat[1] < flat[0]
    assert whole.step(11).metrics["pass_rate_std"] > 0.05
    for step in range(7):  # as a killed run leaves it
        part = Journal(tmp_path / "a").path(step)
        target = Journal(tmp_path / "b").path(step)
        target.parent.mkdir(exist_ok=True)
        target.write_bytes(part.read_bytes())
    resumed = rollouts_of(make_service, tmp_path / "b", prompts, curriculum=True, ahead=ahead)
    for step in range(5, 12):
        assert resumed.step(step).groups == whole.step(step).groups
        assert resumed.step(step).passes == whole.step(step).passes


def test_a_hole_in_the_journal_is_named(
    make_service: Callable[..., Any], prompts: list[Prompt], tmp_path: Path
) -> None:
    steps = rollouts_of(make_service, tmp_path, prompts, curriculum=True)
    for step in range(3):
        steps.step(step)
    Journal(tmp_path).path(1).unlink()
    again = rollouts_of(make_service, tmp_path, prompts, curriculum=True)
    with pytest.raises(RolloutError, match="step-000001"):
        again.step(3)


def test_a_step_may_take_more_prompts_than_there_are(
    make_service: Callable[..., Any], prompts: list[Prompt], tmp_path: Path
) -> None:
    steps = rollouts_of(make_service, tmp_path, prompts[30:33], curriculum=True)
    ids = [group.prompt_id for group in steps.step(0).groups]
    assert Counter(ids).most_common(1)[0][1] == 2
    assert len(set(ids)) == 3
