"""Replay repeats what the engine computed, and losses are those of a plain pass."""

import dataclasses
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F

from pipeline.depth.model import head as heads
from pipeline.depth.model.features import Features, all_logits, token_logprobs
from pipeline.depth.model.frozen import head_process
from pipeline.depth.model.replay import (
    decision_features,
    inputs,
    losses_by_depth,
    read_losses,
    recorded_decisions,
)
from pipeline.depth.trainer_jobs import HeadJob
from pipeline.records import Rollout
from pipeline.recurrent.counter import DEPTH as DEPTH_STREAM
from pipeline.recurrent.counter import uniform
from pipeline.recurrent.model import RecurrentForCausalLM

MakeJob = Callable[..., HeadJob]


def replayed(
    job: HeadJob, runs: list[Rollout], log_prices: dict[str, float]
) -> tuple[Features, torch.Tensor]:
    prices = [log_prices[r.prompt_id] for r in runs]
    with head_process(job) as model:
        made = recorded_decisions(runs, job)
        features = decision_features(model, runs, made, log_prices=prices, job=job)
    head = heads.policy_of(heads.load(job.model))
    return features, all_logits(features, head, device="cpu")


@pytest.mark.parametrize("folder", [True, False], ids=["tied", "untied"], indirect=True)
@pytest.mark.parametrize("segment", [1, 3])
def test_replayed_logprobs_are_the_engines(
    make_job: MakeJob,
    rollouts: list[Rollout],
    segmented: list[Rollout],
    log_prices: dict[str, float],
    segment: int,
) -> None:
    runs = rollouts if segment == 1 else segmented
    own = [r for r in runs if r.depth_logprobs is not None]
    assert 0 < len(own) < len(runs)
    assert len({d for r in own for d in r.depths or ()}) > 2
    features, logit = replayed(make_job(segment=segment), own, log_prices)
    found = token_logprobs(features, logit)
    gaps = [
        abs(found.get((i, t), 0.0) - recorded)
        for i, run in enumerate(own)
        for t, recorded in enumerate(run.depth_logprobs or ())
    ]
    assert max(gaps) < 1e-4
    assert len(found) == sum(-(-len(r.tokens) // segment) for r in own)
    shifted = token_logprobs(features, logit + 0.01)
    assert max(abs(shifted[k] - found[k]) for k in found) > 1e-3  # the tolerance sees that much


def test_the_engines_draws_replay(
    make_job: MakeJob, rollouts: list[Rollout], log_prices: dict[str, float]
) -> None:
    own = [r for r in rollouts if r.depth_logprobs is not None]
    features, logit = replayed(make_job(), own, log_prices)
    seed = torch.tensor([r.seed for r in own])[features.rollout]
    before = torch.tensor([len(r.prompt_tokens) - 1 for r in own])[features.rollout]
    drawn = uniform(seed, before + features.token, features.iteration, stream=DEPTH_STREAM)
    assert ((drawn < torch.sigmoid(logit.double())) == features.goes_on).all()


def test_features_do_not_depend_on_the_batch(
    make_job: MakeJob, rollouts: list[Rollout], log_prices: dict[str, float]
) -> None:
    one, _ = replayed(make_job(batch_rows=1), rollouts, log_prices)
    many, _ = replayed(make_job(batch_rows=50), rollouts, log_prices)
    torch.testing.assert_close(vars(one), vars(many), rtol=1e-4, atol=1e-4)
    assert not torch.equal(one.state, one.previous)


def test_thinning_keeps_whole_tokens(
    make_job: MakeJob, rollouts: list[Rollout], log_prices: dict[str, float]
) -> None:
    whole, _ = replayed(make_job(), rollouts, log_prices)
    total = len({(r, t) for r, t in zip(whole.rollout.tolist(), whole.token.tolist(), strict=True)})
    some, _ = replayed(make_job(max_tokens=total // 2), rollouts, log_prices)
    kept = {(r, t) for r, t in zip(some.rollout.tolist(), some.token.tolist(), strict=True)}
    assert 0.25 * total < len(kept) < 0.75 * total
    for run, token in kept:
        of_whole = (whole.rollout == run) & (whole.token == token)
        of_some = (some.rollout == run) & (some.token == token)
        assert torch.equal(whole.iteration[of_whole], some.iteration[of_some])


def test_losses_are_those_of_one_completion_at_one_depth(
    make_job: MakeJob, rollouts: list[Rollout], make_scored: Callable[..., Path], folder: Path
) -> None:
    job = make_job()
    losses = read_losses(losses_by_depth(job, make_scored(rollouts)))
    model = RecurrentForCausalLM.from_pretrained(folder).eval()
    for run, found in list(zip(rollouts, losses, strict=True))[::5]:
        assert found.shape == (job.max_depth, len(run.tokens))
        tokens = torch.tensor([[*run.prompt_tokens, *run.tokens]])
        first = len(run.prompt_tokens) - 1
        for depth in range(1, job.max_depth + 1):
            depths = torch.full_like(tokens, depth)
            depths[:, :first] = job.prompt_depth
            with torch.no_grad():
                logits = model(tokens, depths=depths).logits[0, first:-1]
            wanted = F.cross_entropy(logits, tokens[0, first + 1 :], reduction="none")
            torch.testing.assert_close(found[depth - 1], wanted, rtol=1e-4, atol=1e-4)
    assert (losses[0][0] - losses[0][-1]).abs().max() > 1e-3


def test_a_dense_rollout_is_refused(rollouts: list[Rollout]) -> None:
    dense = dataclasses.replace(rollouts[0], depths=None)
    with pytest.raises(ValueError, match="p0/0 has no depths"):
        inputs(dense, prompt_depth=1)
