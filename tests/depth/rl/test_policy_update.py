"""One step of the head's training: files in, files out, the same every time."""

import dataclasses
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from pipeline.depth.model import head as heads
from pipeline.depth.model.frozen import head_process
from pipeline.depth.model.replay import completion_losses, recorded_decisions, replay
from pipeline.depth.rl import policy_update
from pipeline.depth.rl.advantage import Member
from pipeline.depth.rl.expected import checks_of
from pipeline.depth.trainer_jobs import HeadJob, Reference, RlUpdate
from pipeline.records import Rollout

MakeJob = Callable[..., HeadJob]
MakeScored = Callable[..., Path]


def spec(log_prices: dict[str, float], **changes: Any) -> RlUpdate:
    given: dict[str, Any] = {
        "step": 0,
        "log_prices": log_prices,
        "ref_tokens": 8.0,
        "lr": 1e-2,
        "epochs": 2,
        "minibatches": 3,
        "clip": 0.2,
        "entropy": 0.01,
        "solvability_floor": 0.0,
    }
    return RlUpdate(**(given | changes))


def test_a_step_changes_the_head_and_says_how(
    make_job: MakeJob,
    drawn: list[Rollout],
    make_scored: MakeScored,
    log_prices: dict[str, float],
    tmp_path: Path,
) -> None:
    job, new = make_job(), tmp_path / "state" / "0.safetensors"
    scored = make_scored(drawn)
    found = policy_update.update(
        job, scored, state=None, new_state=new, reference=job.model, spec=spec(log_prices)
    )
    assert found["logprob_gap"] < 1e-4
    assert found["members"] == 12
    assert found["left_out"] == 0
    depths = [d for r in drawn for d in r.depths or ()]
    assert found["depth_mean"] == pytest.approx(sum(depths) / len(depths))
    cost = sum(sum(r.depths or ()) for r in drawn) / len(drawn) / (job.max_depth * 8.0)
    assert found["cost"] == pytest.approx(cost)
    assert found["reward"] == pytest.approx(0.5)
    assert found["entropy"] > 0
    assert found["kl"] > 0
    before, after = heads.load(job.model), heads.load(new)
    assert max((before[k] - after[k]).abs().max() for k in before) > 1e-3

    exported = policy_update.export_head(job, new)
    assert all(torch.equal(heads.load(exported)[k], after[k]) for k in after)


def test_steps_repeat_and_go_on_from_their_file(
    make_job: MakeJob,
    drawn: list[Rollout],
    make_scored: MakeScored,
    log_prices: dict[str, float],
    tmp_path: Path,
) -> None:
    job, scored = make_job(), make_scored(drawn)

    def step(number: int, state: Path | None, name: str) -> Path:
        policy_update.update(
            job,
            scored,
            state=state,
            new_state=tmp_path / name,
            reference=job.model,
            spec=spec(log_prices, step=number),
        )
        return tmp_path / name

    first = step(0, None, "a0")
    second, again = step(1, first, "a1"), step(1, step(0, None, "b0"), "b1")
    assert second.read_bytes() == again.read_bytes()
    held = load_file(second)
    assert held["optimizer.out.bias.step"] == 12
    with pytest.raises(ValueError, match="is of step 0: step 2"):
        step(2, first, "c")


def test_price_alone_makes_the_policy_shallower(
    make_job: MakeJob,
    drawn: list[Rollout],
    make_scored: MakeScored,
    log_prices: dict[str, float],
    tmp_path: Path,
) -> None:
    """With equal rewards only the price speaks; prompts that nobody solves have none."""

    def drift(reward: float) -> float:
        new = tmp_path / f"{reward}"
        policy_update.update(
            make_job(),
            make_scored(drawn, rewards=[reward] * len(drawn)),
            state=None,
            new_state=new,
            reference=make_job().model,
            spec=spec(log_prices, entropy=0.0, epochs=1, minibatches=1),
        )
        before = heads.load(make_job().model)["model.halting.out.bias"]
        return float(heads.load(new)["model.halting.out.bias"] - before)

    assert drift(1.0) < -5e-3
    assert drift(0.0) == 0.0


def test_members_without_a_reward_are_left_out_and_without_a_price_or_draws_refused(
    make_job: MakeJob,
    drawn: list[Rollout],
    rollouts: list[Rollout],
    make_scored: MakeScored,
    log_prices: dict[str, float],
    tmp_path: Path,
) -> None:
    job = make_job()

    def run(
        rewards: list[float | None], prices: dict[str, float], members: list[Rollout] = drawn
    ) -> dict[str, Any]:
        scored = make_scored(members, rewards=rewards)
        new = tmp_path / "state"
        return policy_update.update(
            job, scored, state=None, new_state=new, reference=job.model, spec=spec(prices)
        )

    some: list[float | None] = [None, *[1.0] * 11]
    assert run(some, log_prices)["left_out"] == 1
    with pytest.raises(ValueError, match=r"p2/0 lacks a price"):
        run(some, {"p0": 0.0, "p1": 0.0})
    with pytest.raises(ValueError, match=r"p0/2 lacks depths that a policy drew"):
        run(some, log_prices, rollouts)
    with pytest.raises(ValueError, match="no member in .* has a reward"):
        run([None] * 12, log_prices)


def test_an_expected_outcome_is_the_chance_at_the_depths_that_ran(
    make_job: MakeJob, drawn: list[Rollout]
) -> None:
    """Paid for their first token alone, members are worth the chance that they gave it."""
    group = [r for r in drawn if r.prompt_id == "p0"]
    wanted = group[0].tokens[0]
    reference = Reference(answer=(wanted,), close=())  # it begins at once
    members = [
        Member(
            group="p0",
            outcome=float(run.tokens[0] == wanted),
            log_price=0.0,
            depths=run.depths or (),
        )
        for run in group
    ]
    checks = [checks_of(run, reference) for run in group]
    assert {c.agrees for own in checks for c in own} == {True, False}
    job = make_job()
    with head_process(job) as model:
        replayed = replay(
            model,
            group,
            recorded_decisions(group, job),
            log_prices=[0.0] * len(group),
            job=job,
            asked=[[(c.token, c.reference) for c in own if not c.agrees] for own in checks],
            temperature=1.0,
        )
        as_wanted = [
            dataclasses.replace(run, tokens=(wanted,), depths=(run.depths or ())[:1])
            for run in group
        ]
        losses = completion_losses(model, as_wanted, job=job)
    credited = policy_update.with_expected(members, group, checks, replayed.chances)
    expected = [math.exp(-float(loss[0])) for loss in losses]
    assert [m.outcome for m in credited] == pytest.approx(expected, abs=1e-5)


def test_a_step_with_references_credits_less_luck(
    make_job: MakeJob,
    drawn: list[Rollout],
    make_scored: MakeScored,
    log_prices: dict[str, float],
    tmp_path: Path,
) -> None:
    first = {r.prompt_id: r.tokens[0] for r in drawn if r.sample == 0}
    rewards: list[float | None] = [float(r.tokens[0] == first[r.prompt_id]) for r in drawn]
    job, scored = make_job(), make_scored(drawn, rewards=rewards)

    def report(references: dict[str, Reference] | None) -> dict[str, Any]:
        told = spec(log_prices, references=references)
        new = tmp_path / "state"
        return policy_update.update(
            job, scored, state=None, new_state=new, reference=job.model, spec=told
        )

    sampled = report(None)
    assert sampled["outcome_variance"] == sampled["reward_variance"] > 0
    expected = report({name: Reference(answer=(t,), close=()) for name, t in first.items()})
    assert expected["reward"] == sampled["reward"]
    assert expected["reward_variance"] == sampled["reward_variance"]
    assert expected["outcome_variance"] < 0.1 * sampled["outcome_variance"]
