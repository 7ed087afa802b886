"""The head and the gate learn from labels, and end up in a folder that an engine serves."""

import dataclasses
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from pipeline.depth.labels import gate, warm_start
from pipeline.depth.labels.label_rules import best_labels, step_labels
from pipeline.depth.labels.probes import later_losses
from pipeline.depth.labels.warm_start import decisions_at, full_depth_tokens, probed_only, targets
from pipeline.depth.model.replay import losses_by_depth, read_losses
from pipeline.depth.trainer_jobs import HeadJob
from pipeline.records import Rollout
from pipeline.recurrent.model import RecurrentForCausalLM

MakeJob = Callable[..., HeadJob]
MakeScored = Callable[..., Path]


def made_up_losses(rollouts: list[Rollout], path: Path) -> Path:
    """Even tokens need depth 3, odd ones depth 1: which the state's position can tell."""
    lengths = torch.tensor([len(r.tokens) for r in rollouts])
    columns = []
    for run in rollouts:
        even = torch.tensor(run.tokens) % 2 == 0
        depth = torch.arange(1, 5)[:, None]
        columns.append(torch.where((depth < 3) & even, 2.0, 0.0))
    save_file({"losses": torch.cat(columns, dim=1), "lengths": lengths}, path)
    return path


def test_tokens_are_in_order_with_their_losses(
    make_job: MakeJob, rollouts: list[Rollout], make_scored: MakeScored
) -> None:
    job, scored = make_job(), make_scored(rollouts)
    tokens = full_depth_tokens(job, scored, losses_by_depth(job, scored))
    count = sum(len(r.tokens) for r in rollouts)
    assert tokens.losses.shape == (4, count)
    assert len(tokens.features) == 3 * count
    assert tokens.features.iteration.view(count, 3).tolist() == [[1, 2, 3]] * count
    assert tokens.features.goes_on.all()
    assert set(tokens.features.rollout.view(count, 3)[tokens.held_out][:, 0].tolist()) == {9}

    index = torch.tensor([4, 2])
    price = torch.tensor([0.01, 0.5])
    for labels in ("best", "step"):
        found = targets(tokens, index, price, labels=labels).view(2, 3)
        for row, (i, p) in enumerate(zip(index.tolist(), price.tolist(), strict=True)):
            loss = tokens.losses[:, i]
            one = best_labels(loss, price=p) if labels == "best" else step_labels(loss, margin=p)
            assert torch.equal(found[row], one)
    assert decisions_at(tokens, index).tolist() == [12, 13, 14, 6, 7, 8]


def test_only_probed_tokens_are_learned_from(
    make_job: MakeJob, rollouts: list[Rollout], make_scored: MakeScored
) -> None:
    job, scored = make_job(), make_scored(rollouts)
    whole = full_depth_tokens(job, scored, losses_by_depth(job, scored))
    later = later_losses(job, scored, probes=2)
    some = probed_only(whole, scored, later)
    assert some.losses.shape == (4, 2 * len(rollouts))
    kept = list(zip(some.features.rollout.tolist(), some.features.token.tolist(), strict=True))
    losses = read_losses(later)
    for column, (rollout, token) in enumerate(kept[:: some.decisions]):
        assert torch.equal(some.losses[:, column], losses[rollout][:, token])
    where = list(zip(whole.features.rollout.tolist(), whole.features.token.tolist(), strict=True))
    assert torch.equal(some.features.state[0], whole.features.state[where.index(kept[0])])


def test_labels_of_what_follows_need_its_losses(
    make_job: MakeJob, rollouts: list[Rollout], make_scored: MakeScored
) -> None:
    job, scored = make_job(), make_scored(rollouts)
    with pytest.raises(ValueError, match="needs the losses of `probes.later_losses`"):
        warm_start.train(
            job,
            scored,
            losses_by_depth(job, scored),
            prices=(0.1, 1.0),
            steps=1,
            lr=1e-2,
            bias=0.0,
            labels="later",
        )


def test_a_segments_first_token_answers_for_all(
    make_job: MakeJob, rollouts: list[Rollout], make_scored: MakeScored
) -> None:
    scored = make_scored(rollouts)
    losses = losses_by_depth(make_job(), scored)
    each = full_depth_tokens(make_job(), scored, losses)
    three = full_depth_tokens(make_job(segment=3), scored, losses)
    assert three.answers_for[:2].tolist() == [3, 1]  # the first completion has 4 tokens
    torch.testing.assert_close(three.losses[:, 0], each.losses[:, :3].sum(1))
    torch.testing.assert_close(three.losses.sum(), each.losses.sum())
    assert torch.equal(three.features.state[:3], each.features.state[:3])
    thinned = full_depth_tokens(make_job(segment=3, max_tokens=10), scored, losses)
    assert thinned.losses.shape[1] * 3 == len(thinned.features) < len(three.features)


def test_the_head_learns_its_labels_and_obeys_the_price(
    make_job: MakeJob, rollouts: list[Rollout], make_scored: MakeScored, tmp_path: Path
) -> None:
    job = make_job()
    found = warm_start.train(
        job,
        make_scored(rollouts),
        made_up_losses(rollouts, tmp_path / "losses"),
        prices=(0.05, 20.0),
        steps=150,
        lr=1e-2,
        bias=0.0,
        width=8,
    )
    assert found["depth_low"] > found["depth_high"] + 0.3
    model = RecurrentForCausalLM.from_pretrained(job.out)
    assert model.config.halting_width == 8
    assert model.model.halting is not None
    plain = model.model.halting.out.bias.item()
    warm_start.train(
        dataclasses.replace(job, out=tmp_path / "deep"),
        make_scored(rollouts),
        tmp_path / "losses",
        prices=(0.05, 20.0),
        steps=150,
        lr=1e-2,
        bias=1.5,
        width=8,
    )
    deep = RecurrentForCausalLM.from_pretrained(tmp_path / "deep").model.halting
    assert deep is not None
    assert deep.out.bias.item() == pytest.approx(plain + 1.5)


def test_losses_of_other_rollouts_are_refused(
    make_job: MakeJob, rollouts: list[Rollout], make_scored: MakeScored, tmp_path: Path
) -> None:
    losses = made_up_losses(rollouts[:-1], tmp_path / "losses")
    with pytest.raises(ValueError, match="is not of the rollouts"):
        full_depth_tokens(make_job(), make_scored(rollouts), losses)


def test_the_gate_learns_when_to_leave(
    make_job: MakeJob, rollouts: list[Rollout], make_scored: MakeScored, tmp_path: Path
) -> None:
    losses = made_up_losses(rollouts, tmp_path / "losses")
    job = make_job(segment=2)
    tokens = full_depth_tokens(make_job(), make_scored(rollouts), losses)
    fitted = torch.nn.Linear(64, 1)
    gate.fit(fitted, tokens, steps=300, lr=3e-2, seed=0)
    chance = torch.sigmoid(fitted(tokens.features.state))[:, 0].view(-1, 3)
    gains = tokens.losses[0] > 0
    assert chance[gains, 1].mean() < 0.7 * chance[:, 2].mean()  # the gain lies behind iteration 2

    found = gate.train(job, make_scored(rollouts), losses, steps=20, lr=1e-2)
    assert 0 < found["mean_gate"] < 1
    assert RecurrentForCausalLM.from_pretrained(job.out).config.exit_gate
