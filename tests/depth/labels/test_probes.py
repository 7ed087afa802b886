"""One decision changed at a time, against passes of our own."""

from collections.abc import Callable
from pathlib import Path

import torch
import torch.nn.functional as F

from pipeline.depth.labels.probes import later_losses
from pipeline.depth.model.replay import read_losses
from pipeline.depth.trainer_jobs import HeadJob
from pipeline.records import Rollout
from pipeline.recurrent.model import RecurrentForCausalLM

MakeJob = Callable[..., HeadJob]
MakeScored = Callable[..., Path]


def loss_from(
    model: RecurrentForCausalLM, run: Rollout, depths: list[int], first: int, prompt_depth: int
) -> float:
    """Loss of a completion's tokens from `first` on, its positions at `depths`."""
    tokens = torch.tensor([[*run.prompt_tokens, *run.tokens]])
    before = len(run.prompt_tokens) - 1
    every = torch.tensor([[*[prompt_depth] * before, *depths, 1]])
    with torch.no_grad():
        logits = model(tokens, depths=every).logits[0, before:-1]
    losses = F.cross_entropy(logits, tokens[0, before + 1 :], reduction="none")
    return float(losses[first:].sum())


def check(job: HeadJob, rollouts: list[Rollout], scored: Path, model: RecurrentForCausalLM) -> None:
    found = read_losses(later_losses(job, scored, probes=2))
    assert len(found) == len(rollouts)
    for run, losses in zip(rollouts, found, strict=True):
        assert losses.shape == (job.max_depth, len(run.tokens))
        probed = losses.isfinite().all(dim=0).nonzero()[:, 0].tolist()
        assert len(probed) == min(2, -(-len(run.tokens) // job.segment))
        assert all(token % job.segment == 0 for token in probed)
        for token in probed:
            for depth in range(1, job.max_depth + 1):
                depths = [job.max_depth] * len(run.tokens)
                for place in range(token, min(token + job.segment, len(run.tokens))):
                    depths[place] = depth
                wanted = loss_from(model, run, depths, token, job.prompt_depth)
                assert abs(float(losses[depth - 1, token]) - wanted) < 1e-3


def test_a_probe_changes_one_token_and_counts_all_that_follow(
    make_job: MakeJob, rollouts: list[Rollout], make_scored: MakeScored, folder: Path
) -> None:
    model = RecurrentForCausalLM.from_pretrained(folder).eval()
    check(make_job(), rollouts[::3], make_scored(rollouts[::3]), model)


def test_a_probe_changes_a_whole_segment(
    make_job: MakeJob, rollouts: list[Rollout], make_scored: MakeScored, folder: Path
) -> None:
    model = RecurrentForCausalLM.from_pretrained(folder).eval()
    check(make_job(segment=3), rollouts[::3], make_scored(rollouts[::3]), model)


def test_the_draw_is_the_seeds(
    make_job: MakeJob, rollouts: list[Rollout], make_scored: MakeScored
) -> None:
    scored = make_scored(rollouts)
    one, same = (
        torch.cat(read_losses(later_losses(make_job(), scored, probes=1)), dim=1) for _ in range(2)
    )
    other = torch.cat(read_losses(later_losses(make_job(seed=6), scored, probes=1)), dim=1)
    assert torch.equal(one.isnan(), same.isnan())
    assert not torch.equal(one.isnan(), other.isnan())
