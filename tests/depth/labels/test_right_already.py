"""The "right already?" head: what it learns from, and that it learns it."""

import dataclasses
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from pipeline.depth.labels import right_already
from pipeline.depth.labels.probes import later_losses
from pipeline.depth.labels.right_already import fixed_outcomes, later_outcomes
from pipeline.depth.labels.right_part import THRESHOLDS, best_of
from pipeline.depth.labels.warm_start import full_depth_tokens, probed_only
from pipeline.depth.model import head as heads
from pipeline.depth.model.replay import at_depth, losses_by_depth
from pipeline.depth.trainer_jobs import HeadJob, RightLabels
from pipeline.generate.native.paths import judge_of
from pipeline.records import Rollout
from pipeline.recurrent.model import RecurrentForCausalLM

MakeJob = Callable[..., HeadJob]
MakeScored = Callable[..., Path]


def at_all_depths(rollouts: list[Rollout]) -> list[Rollout]:
    return [at_depth(r, d, prompt_depth=2) for d in (1, 2, 3, 4) for r in rollouts]


def test_fixed_depths_give_each_tokens_last_state_its_completions_reward(
    make_job: MakeJob, rollouts: list[Rollout], make_scored: MakeScored, folder: Path
) -> None:
    runs = at_all_depths(rollouts)
    rewards: list[float | None] = [float(run.depths[0] >= 3) for run in runs if run.depths]
    rewards[5] = None
    outcomes = fixed_outcomes(make_job(), make_scored(runs, rewards=rewards))
    tokens = [len(r.tokens) for r in runs]
    assert len(outcomes.right) == sum(tokens[: 3 * len(rollouts)]) - tokens[5]  # the cap is none
    assert torch.equal(outcomes.right, (outcomes.features.iteration >= 3).float())
    run = runs[2 * len(rollouts)]
    model = RecurrentForCausalLM.from_pretrained(folder).eval().model
    sequence = torch.tensor([[*run.prompt_tokens, *run.tokens[:-1]]])
    depths = torch.tensor([[*[2] * (len(run.prompt_tokens) - 1), *(run.depths or ())]])
    out = model(sequence, depths=depths, output_hidden_states=True, use_cache=False)
    assert out.hidden_states is not None
    row = int((outcomes.features.rollout == 2 * len(rollouts) - 1).nonzero()[0])
    expected = out.hidden_states[3][0, len(run.prompt_tokens) - 1]
    torch.testing.assert_close(outcomes.features.state[row], expected, rtol=1e-4, atol=1e-4)


def test_later_labels_are_the_reward_where_leaving_costs_nothing(
    make_job: MakeJob, rollouts: list[Rollout], make_scored: MakeScored, tmp_path: Path
) -> None:
    job, scored = make_job(out=tmp_path / "labels"), make_scored(rollouts)
    losses, later = losses_by_depth(job, scored), later_losses(job, scored, probes=3)
    labels = RightLabels(rollouts=scored, losses=losses, later=later)
    outcomes = later_outcomes(job, labels)
    tokens = probed_only(full_depth_tokens(job, scored, losses), scored, later)
    assert len(outcomes.right) == 3 * tokens.losses.shape[1]
    paid = torch.tensor([float((r.sample + len(r.prompt_tokens)) % 2 == 0) for r in rollouts])
    reward = paid[tokens.features.rollout[::3]]
    for iteration in (1, 2, 3):
        stays = (tokens.losses[3] - tokens.losses[iteration - 1]).exp().clamp_max(1.0)
        mine = outcomes.right[outcomes.features.iteration == iteration]
        torch.testing.assert_close(mine, reward * stays)


def test_it_learns_when_answers_are_right_and_ends_up_in_the_model(
    make_job: MakeJob, rollouts: list[Rollout], make_scored: MakeScored
) -> None:
    runs = at_all_depths(rollouts)
    rewards: list[float | None] = [float((r.depths or (0,))[0] >= 3) for r in runs]
    job = make_job()
    labels = RightLabels(rollouts=make_scored(runs, rewards=rewards))
    report = right_already.train(job, labels=labels, steps=150, lr=1e-2, width=8)
    assert report["loss"] < 0.3 * report["loss_constant"]
    head = heads.policy_of(heads.load(job.out))
    features = fixed_outcomes(job, labels.rollouts).features
    right = torch.sigmoid(-features.logits(head))
    assert right[features.iteration == 3].mean() > 0.8 > 0.2 > right[features.iteration < 3].mean()
    again = right_already.train(
        dataclasses.replace(job, out=job.out.with_name("again")),
        labels=labels, steps=150, lr=1e-2, width=8,
    )  # fmt: skip
    assert again == report


def test_a_judge_of_paths_knows_the_cap_too(
    make_job: MakeJob, rollouts: list[Rollout], make_scored: MakeScored
) -> None:
    runs = at_all_depths(rollouts)
    scored = make_scored(runs, rewards=[float((r.depths or (0,))[0] == 4) for r in runs])
    job = make_job()
    with_cap = fixed_outcomes(job, scored, at_cap=True)
    assert len(with_cap.right) == sum(len(r.tokens) for r in runs)
    file = right_already.judge(job, scored, steps=150, lr=1e-2, width=8)
    assert [path.name for path in job.out.iterdir()] == [file.parent.name]
    judge = judge_of(job.out, device="cpu")
    assert judge is not None
    right = torch.sigmoid(-with_cap.features.logits(judge))
    at_cap = with_cap.features.iteration == 4
    assert right[at_cap].mean() > 0.8 > 0.2 > right[~at_cap].mean()


def test_without_rewards_there_is_nothing_to_learn(
    make_job: MakeJob, rollouts: list[Rollout], make_scored: MakeScored
) -> None:
    scored = make_scored(rollouts, rewards=[None] * len(rollouts))
    with pytest.raises(ValueError, match="has a reward"):
        fixed_outcomes(make_job(), scored)


def test_the_candidate_that_reaches_furthest_is_taken() -> None:
    low = [(10.0, 0.2), (20.0, 0.4)]
    high = [(10.0, 0.3), (20.0, 0.5)]
    assert best_of([low, high]) == 1
    assert best_of([high, low, high]) == 0
    assert best_of([[(1.0, 1.0)], [(1.0, 1.0)]]) == 0
    assert sorted(THRESHOLDS, reverse=True) == THRESHOLDS
