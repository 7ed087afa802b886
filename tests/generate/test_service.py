"""The rollout service over fake engines: order, filtering, replacement, journal, limits."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from pipeline.generate.client import slice_of
from pipeline.generate.engine import stream_chunks
from pipeline.generate.groups import has_variance
from pipeline.generate.journal import Journal
from pipeline.generate.service import (
    RewardUse,
    RolloutError,
    RolloutService,
    Sampling,
    sampling_of,
    weighted_sum,
)
from pipeline.generate.steps import GrpoRollouts
from pipeline.generate.unscored import TooManyUnscored
from pipeline.recipe.evaluate_stage import EvaluateStage
from pipeline.recipe.grpo_stage import GrpoStage
from pipeline.records import Prompt, Request
from pipeline.recurrent.explore import Exploration
from pipeline.recurrent.request import DepthRequest
from rewards.api import Sample

SAMPLING = Sampling(samples=3, temperature=1.0, top_p=1.0, max_tokens=8)


def correct(sample: Sample) -> float:
    return float(sample.completion == sample.gold)


def right_when_even(request: Request) -> str:
    """Samples 0 and 2 are right; the prompt's tokens spell `say N`."""
    text = "".join(chr(t) for t in request.prompt_tokens)
    return text.removeprefix("say ") if request.sample % 2 == 0 else "no"


def stage(**keywords: Any) -> GrpoStage:
    given: dict[str, Any] = {
        "steps": 10,
        "prompts_per_step": 4,
        "samples_per_prompt": 2,
        "max_tokens": 8,
    }
    return GrpoStage(kind="grpo", prompts="train", rewards=["answer"], **given | keywords)


def rollouts_of(
    service: RolloutService, folder: Path, prompts: list[Prompt], **keywords: Any
) -> GrpoRollouts:
    options = {"seed": 5, "preference": None, "watch": (), "watch_reward": "answer"}
    spec = keywords.pop("spec", stage())
    return GrpoRollouts(service, Journal(folder), spec, prompts, **options | keywords)


@pytest.mark.parametrize("engines", [1, 3])
def test_groups_come_in_prompt_and_sample_order(
    make_service: Callable[..., Any], prompts: list[Prompt], engines: int
) -> None:
    service, fakes = make_service(right_when_even, correct, engines=engines)
    groups = service.sample(
        prompts[:7], source="train", sampling=SAMPLING, seed=1, step=0, version=0
    )
    assert [g.prompt_id for g in groups] == [p.id for p in prompts[:7]]
    for group in groups:
        assert [s.rollout.sample for s in group.samples] == [0, 1, 2]
        assert [s.reward for s in group.samples] == [2.0, 0.0, 2.0]  # weight 2
    for fake in fakes:  # whole groups stay on one engine
        by_prompt = [r.prompt_id for r in fake.requests]
        assert all(by_prompt.count(p) == 3 for p in set(by_prompt))


def test_each_sample_runs_at_its_own_depth(
    make_service: Callable[..., Any], prompts: list[Prompt]
) -> None:
    service, fakes = make_service(right_when_even, correct, engines=2)
    depths = {p.id: [DepthRequest(depth=d + int(p.id[1:])) for d in (3, 1, 2)] for p in prompts[:4]}
    options = {"source": "train", "sampling": SAMPLING, "seed": 1, "step": 0, "version": 0}
    service.sample(prompts[:4], **options, depths=depths)
    asked = {(r.prompt_id, r.sample): r for fake in fakes for r in fake.requests}
    assert {key: r.depth for key, r in asked.items()} == {
        (name, i): request for name, some in depths.items() for i, request in enumerate(some)
    }
    service.sample(prompts[:4], **options)
    without = {(r.prompt_id, r.sample): r for fake in fakes for r in fake.requests}
    assert {r.depth for r in without.values()} == {None}
    assert all(without[key].seed == r.seed for key, r in asked.items())  # the same draws


def test_every_request_of_a_stage_that_explores_does(
    make_service: Callable[..., Any], prompts: list[Prompt]
) -> None:
    keys = {"kind": "evaluate", "models": ["base"], "prompts": "train", "samples_per_prompt": 2}
    explore = {"paths": 4, "noise": 0.1}
    spec = EvaluateStage.model_validate({**keys, "max_tokens": 8, "explore": explore})
    options: dict[str, Any] = {"source": "train", "seed": 1, "step": 0, "version": 0}
    asked = []
    for one in (spec, spec.model_copy(update={"explore": None})):
        service, (fake,) = make_service(right_when_even, correct)
        service.sample(prompts[:2], sampling=sampling_of(one), **options)
        asked.append(fake.requests)
    assert [r.explore for r in asked[0]] == [Exploration(paths=4, noise=0.1)] * 4
    assert [replace(r, explore=None) for r in asked[0]] == asked[1]  # the same draws


def test_a_missing_depth_is_named(make_service: Callable[..., Any], prompts: list[Prompt]) -> None:
    service, _ = make_service(right_when_even, correct)
    depths = {"p0": [DepthRequest(depth=1)] * 3, "p1": [DepthRequest(depth=1)] * 2}
    with pytest.raises(ValueError, match="prompt p1 has 2 depth requests for 3 samples"):
        service.sample(
            prompts[:2],
            source="train",
            sampling=SAMPLING,
            seed=1,
            step=0,
            version=0,
            depths=depths,
        )


@pytest.mark.parametrize(("source", "scale"), [("train", 1.0), ("held_out", 5.0)])
def test_a_reward_may_differ_by_source(
    make_service: Callable[..., Any], prompts: list[Prompt], source: str, scale: float
) -> None:
    routes = [
        RewardUse(name="answer", ref="fake", weight=2.0, args={"scale": scale}, source=entry)
        for entry, scale in (("train", 1.0), ("held_out", 5.0))
    ]
    service, _ = make_service(right_when_even, correct, rewards=routes)
    (group,) = service.sample(
        prompts[:1], source=source, sampling=SAMPLING, seed=1, step=0, version=0
    )
    assert [s.components for s in group.samples] == [{"answer": v * scale} for v in (1, 0, 1)]
    assert [s.reward for s in group.samples] == [2 * v * scale for v in (1, 0, 1)]


def test_a_prompt_too_long_is_named(
    make_service: Callable[..., Any], prompts: list[Prompt]
) -> None:
    service, _ = make_service(right_when_even, correct)
    with pytest.raises(RolloutError, match=r"prompt p0 has 5 tokens.*leaves 4 for a prompt"):
        service.sample(
            prompts[:1],
            source="train",
            sampling=Sampling(samples=1, temperature=1.0, top_p=1.0, max_tokens=96),
            seed=1,
            step=0,
            version=0,
        )


def test_flat_groups_are_replaced_within_the_limit(
    make_service: Callable[..., Any], prompts: list[Prompt], tmp_path: Path
) -> None:
    """Only prompts under 20 have both right and wrong samples."""

    def answer(request: Request) -> str:
        number = int("".join(chr(t) for t in request.prompt_tokens).removeprefix("say "))
        return right_when_even(request) if number < 20 else "no"

    service, _ = make_service(answer, correct)
    made = rollouts_of(service, tmp_path, prompts, spec=stage(resample_rounds=5)).step(0)
    assert all(has_variance(g) for g in made.groups)
    assert len({g.prompt_id for g in made.groups}) == 4
    none = rollouts_of(service, tmp_path / "x", prompts, spec=stage(resample_rounds=0)).step(0)
    assert none.metrics["resampled_groups"] == 0
    assert len(none.groups) == 4


def test_a_journaled_step_is_not_generated_again(
    make_service: Callable[..., Any], prompts: list[Prompt], tmp_path: Path
) -> None:
    service, (fake,) = make_service(right_when_even, correct)
    first = rollouts_of(service, tmp_path, prompts).step(3)
    generated = len(fake.requests)
    again = rollouts_of(service, tmp_path, prompts).step(3)
    assert again == first
    assert len(fake.requests) == generated


def test_unscored_samples_stop_the_run_with_the_reason(
    make_service: Callable[..., Any], prompts: list[Prompt], tmp_path: Path
) -> None:
    service, _ = make_service(right_when_even, lambda sample: None)
    with pytest.raises(
        TooManyUnscored, match=r"step 1: 100.0% .*: answer: broken, sample p\d+/0 \(24 such\)"
    ):
        rollouts_of(service, tmp_path, prompts).step(0)
    assert not list(tmp_path.iterdir())


def test_the_preference_model_joins_in_the_last_fraction(
    make_service: Callable[..., Any], prompts: list[Prompt], tmp_path: Path
) -> None:
    class Longest:
        def score(self, prompts: list[str], completions: list[str]) -> list[float]:
            return [float(len(c)) for c in completions]

    service, _ = make_service(right_when_even, correct)
    source = rollouts_of(service, tmp_path, prompts, preference=(Longest(), "taste", 0.5, 0.25))
    early, late = source.step(7), source.step(8)
    assert all("taste" not in s.components for g in early.groups for s in g.samples)
    for sample in (s for g in late.groups for s in g.samples):
        assert sample.components["taste"] == len(sample.text)
        right = sample.components["answer"] or 0.0
        assert sample.reward == 2.0 * right + 0.5 * len(sample.text)


@pytest.mark.parametrize("value", [float("nan"), float("inf"), 1e30])
def test_what_nothing_can_be_learned_from_is_no_reward(
    value: float, make_service: Callable[..., Any], prompts: list[Prompt], tmp_path: Path
) -> None:
    service, _ = make_service(right_when_even, lambda sample: value)
    with pytest.raises(
        TooManyUnscored, match=r"answer: infra_error, reward fake, sample 'p\d+/0': gave .* \(24"
    ):
        rollouts_of(service, tmp_path, prompts).step(0)


def test_a_reward_model_without_numbers_is_named(
    make_service: Callable[..., Any], prompts: list[Prompt], tmp_path: Path
) -> None:
    class Broken:
        def score(self, prompts: list[str], completions: list[str]) -> list[float]:
            return [float("nan"), *(0.5 for _ in completions[1:])]

    service, _ = make_service(right_when_even, correct)
    source = rollouts_of(service, tmp_path, prompts, preference=(Broken(), "taste", 0.5, 1.0))
    with pytest.raises(
        TooManyUnscored, match=r"taste: infra_error, sample p\d+/0: the reward model gave nan"
    ):
        source.step(0)


def test_watched_accuracy_is_of_the_scored_samples(
    make_service: Callable[..., Any], prompts: list[Prompt], tmp_path: Path
) -> None:
    """Two of four held-out prompts are scored, one of them right."""
    values: dict[str, float | None] = dict(zip("abcd", (1.0, 0.0, None, None), strict=True))

    def judge(sample: Any) -> float | None:
        return values.get(sample.id.split("/")[0], 1.0)

    service, _ = make_service(right_when_even, judge)
    watched = [replace(prompts[0], id=name) for name in values]
    spec = stage(watch={"prompts": "train", "every_steps": 1, "size": 4})

    def row(watch: list[Prompt]) -> dict[str, float]:
        return rollouts_of(service, tmp_path, prompts, spec=spec, watch=watch).held_out(0)

    assert row(watched) == {
        "held_out_accuracy": 0.5,
        "held_out_reward/answer": 0.5,
        "held_out_unscored_share": 0.5,
    }
    assert row(watched[2:]) == {"held_out_unscored_share": 1.0}


def test_watched_accuracy_counts_right_answers_and_means_are_apart(
    make_service: Callable[..., Any], prompts: list[Prompt], tmp_path: Path
) -> None:
    """A reward of parts: two of four answers are right, at 1 and at 2; the mean is no accuracy."""
    values = dict(zip("abcd", (1.0, 2.0, 0.9, -0.5), strict=True))
    service, _ = make_service(
        right_when_even, lambda sample: values.get(sample.id.split("/")[0], 1.0)
    )
    watched = [replace(prompts[0], id=name) for name in values]
    spec = stage(watch={"prompts": "train", "every_steps": 1, "size": 4})
    row = rollouts_of(service, tmp_path, prompts, spec=spec, watch=watched).held_out(0)
    assert row["held_out_accuracy"] == 0.5
    assert row["held_out_reward/answer"] == pytest.approx(0.85)


def test_an_engine_failure_reaches_the_caller(
    make_service: Callable[..., Any], prompts: list[Prompt]
) -> None:
    def broken(request: Request) -> str:
        raise OSError("out of memory")

    service, _ = make_service(broken, correct)
    with pytest.raises(OSError, match="out of memory"):
        service.sample(prompts, source="train", sampling=SAMPLING, seed=1, step=0, version=0)


def test_a_missing_component_masks_the_sample() -> None:
    assert weighted_sum({"a": 1.0, "b": 0.5}, {"a": 1.0, "b": 2.0}) == 2.0
    assert weighted_sum({"a": 1.0, "b": None}, {"a": 1.0, "b": 2.0}) is None


def test_chunks_hold_everything_once() -> None:
    times = iter(range(100))
    chunks = list(stream_chunks(iter(range(7)), every_s=3, clock=lambda: next(times)))  # type: ignore[arg-type]
    assert [x for chunk in chunks for x in chunk] == list(range(7))
    assert len(chunks) > 1


@pytest.mark.parametrize(("ahead", "versions"), [(0, [0, 1, 2]), (1, [0, 0, 1])])
def test_weights_of_a_step_are_a_function_of_the_step(
    make_service: Callable[..., Any],
    prompts: list[Prompt],
    tmp_path: Path,
    ahead: int,
    versions: list[int],
) -> None:
    service, _ = make_service(right_when_even, correct)
    steps = rollouts_of(service, tmp_path, prompts, spec=stage(ahead=ahead))
    for step, version in enumerate(versions):
        samples = [s for group in steps.step(step).groups for s in group.samples]
        assert {s.rollout.weight_version for s in samples} == {version}
        journaled = slice_of(steps.step(step), rank=0, ranks=1)
        assert set(journaled.versions or ()) == {version}
