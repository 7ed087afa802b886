"""A step may meet a prompt twice: two groups, told apart everywhere, with draws of their own."""

import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from pipeline.depth.members import step_prices, step_requests
from pipeline.generate.journal import Journal
from pipeline.generate.schedule import derived_seed
from pipeline.generate.service import Sampling
from pipeline.generate.steps import GrpoRollouts
from pipeline.recipe.depth_stage import DepthStage
from pipeline.recipe.grpo_stage import GrpoStage
from pipeline.records import Prompt, Request, group_names
from pipeline.recurrent.request import DepthRequest
from rewards.api import Sample

SAMPLES = 2


def some_prompts(size: int) -> list[Prompt]:
    return [Prompt(id=f"p{i}", question=f"say {i}", answer=str(i)) for i in range(size)]


def answer(request: Request) -> str:
    """Every third prompt is always right; of the others the seed decides."""
    text = "".join(chr(t) for t in request.prompt_tokens).removeprefix("say ")
    return text if int(text) % 3 == 0 or request.seed % 2 else "no"


def correct(sample: Sample) -> float:
    return float(sample.completion == sample.gold)


class Longest:
    def score(self, prompts: list[str], completions: list[str]) -> list[float]:
        return [float(len(p) + len(c)) for p, c in zip(prompts, completions, strict=True)]


@settings(
    max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(
    size=st.integers(1, 40),
    count=st.integers(1, 48),
    step=st.integers(0, 12),
    seed=st.integers(0, 2**31),
    rounds=st.integers(0, 3),
    engines=st.integers(1, 3),
    preference=st.booleans(),
)
def test_a_step_has_its_count_of_whole_groups(
    make_service: Callable[..., Any],
    *,
    size: int,
    count: int,
    step: int,
    seed: int,
    rounds: int,
    engines: int,
    preference: bool,
) -> None:
    service, fakes = make_service(answer, correct, engines=engines)
    spec = GrpoStage(
        kind="grpo",
        prompts="train",
        rewards=["answer"],
        steps=20,
        prompts_per_step=count,
        samples_per_prompt=SAMPLES,
        max_tokens=8,
        resample_rounds=rounds,
    )
    with tempfile.TemporaryDirectory() as folder:
        rollouts = GrpoRollouts(
            service,
            Journal(Path(folder)),
            spec,
            some_prompts(size),
            seed=seed,
            preference=(Longest(), "taste", 0.5, 1.0) if preference else None,
            watch=(),
            watch_reward="answer",
        )
        made = rollouts.step(step)
        assert Journal(Path(folder)).read(step) == made
    assert len(made.groups) == count
    names = [[s.rollout.group for s in g.samples] for g in made.groups]
    assert all(len(some) == SAMPLES and len(set(some)) == 1 for some in names)
    assert len({some[0] for some in names}) == count
    for group in made.groups:
        assert [s.rollout.sample for s in group.samples] == list(range(SAMPLES))
        assert {s.rollout.prompt_id for s in group.samples} == {group.prompt_id}
    requests = [r for fake in fakes for r in fake.requests]
    assert len({r.seed for r in requests}) == len(requests)
    once = [r for r in requests if not r.repeat]
    assert all(r.seed == derived_seed(seed, step, r.prompt_id, r.sample) for r in once)


def test_rewards_depths_and_prices_are_of_the_group(make_service: Callable[..., Any]) -> None:
    service, (fake,) = make_service(answer, correct)
    (prompt,) = some_prompts(1)
    names = group_names([prompt, prompt])
    depths = {name: [DepthRequest(depth=i + 1)] for i, name in enumerate(names)}
    sampling = Sampling(samples=1, temperature=1.0, top_p=1.0, max_tokens=8)
    options = {"source": "train", "sampling": sampling, "seed": 1, "step": 0, "version": 0}
    groups = service.sample([prompt, prompt], **options, depths=depths)
    assert [s.rollout.group for g in groups for s in g.samples] == names
    assert {r.group: r.depth for r in fake.requests} == {n: d for n, (d,) in depths.items()}

    spec = DepthStage.model_validate(
        {"kind": "depth", "prompts": "t", "calibration": "t", "held_out": "t", "max_depth": 8,
         "max_tokens": 9, "rl": {"samples_per_prompt": 4}}
    )  # fmt: skip
    prices = step_prices(spec, names, seed=1, step=0)
    assert len(set(prices.values())) == 2
    assert set(step_requests(spec, prices)) == set(names)


def test_a_journal_that_mixed_two_groups_is_made_anew(
    make_service: Callable[..., Any], tmp_path: Path
) -> None:
    """Files without the column are read; one that has a prompt's samples twice is not."""
    service, _ = make_service(answer, correct)
    prompts = some_prompts(4)
    spec = GrpoStage(
        kind="grpo",
        prompts="train",
        rewards=["answer"],
        steps=9,
        prompts_per_step=3,
        samples_per_prompt=SAMPLES,
        max_tokens=8,
        resample_rounds=0,
    )
    options: dict[str, Any] = {"seed": 1, "preference": None, "watch": (), "watch_reward": "answer"}
    journal = Journal(tmp_path)
    rollouts = GrpoRollouts(service, journal, spec, prompts, **options)
    whole = rollouts.step(0)
    mixed = next(s for s in range(1, 9) if any(map(_repeated, rollouts.step(s).groups)))
    for step in (0, mixed):
        table = pq.read_table(journal.path(step))
        pq.write_table(table.drop_columns(["repeat"]), journal.path(step))
        journal.path(step).with_suffix(".sha256").unlink()  # files of then had none
    assert journal.read(0) == whole
    assert journal.read(mixed) is None
    assert len(rollouts.step(mixed).groups) == 3


def _repeated(group: Any) -> bool:
    return any(s.rollout.repeat for s in group.samples)


@pytest.mark.parametrize("met", [1, 2, 3])
def test_samples_are_named_apart_before_the_rewards(
    make_service: Callable[..., Any], met: int
) -> None:
    seen: list[str] = []
    service, _ = make_service(answer, lambda sample: seen.append(sample.id) or 1.0)
    sampling = Sampling(samples=2, temperature=1.0, top_p=1.0, max_tokens=8)
    service.sample(
        some_prompts(1) * met, source="train", sampling=sampling, seed=1, step=0, version=0
    )
    assert len(set(seen)) == 2 * met
