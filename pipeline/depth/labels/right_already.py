"""A head that says after every iteration whether the answer would be right if the token left now.

The halting of HRM (arXiv 2506.21734) and TRM (arXiv 2510.04871): one binary cross-entropy on the
outcome, no price, no credit for what an iteration costs. It is a `HaltingPolicy` whose logit is
that of *not yet*, told no price; rule "right" reads it.
"""

import copy
from dataclasses import dataclass
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.optim import AdamW

from pipeline.depth.labels.warm_start import (
    HELD_OUT,
    decisions_at,
    full_depth_tokens,
    probed_only,
)
from pipeline.depth.model.decisions import Decisions
from pipeline.depth.model.features import Features
from pipeline.depth.model.frozen import head_process
from pipeline.depth.model.head import fresh, with_head, write_whole
from pipeline.depth.model.replay import decision_features
from pipeline.depth.trainer_jobs import HeadJob, RightLabels
from pipeline.records import Rollout, read_scored
from pipeline.recurrent.explore import RIGHT_HEAD
from pipeline.recurrent.policy import HaltingPolicy

BATCH_DECISIONS = 2048
CHECK_EVERY = 20  # steps
REPORTED = 8192  # held-out decisions that are looked at on the way, at most
WEIGHT_DECAY = 0.01


@dataclass(frozen=True, kw_only=True)
class Outcomes:
    """States after iterations, and how likely the answer is right where the token leaves there."""

    features: Features  # [_N], their prices all 1, of which the head is told nothing
    right: Tensor  # [_N] in [0, 1]
    held_out: Tensor  # [_N] bool


def train(
    job: HeadJob,
    *,
    labels: RightLabels,
    steps: int,
    lr: float,
    width: int,
) -> dict[str, float]:
    """Write `job.model` with the head to `job.out`.

    Returns:
        loss and loss_constant (on held-out rollouts, beside the best constant's), right (mean
        label), decisions.

    Raises ValueError where no rollout has a reward.
    """
    with head_process(job) as model:
        head = fresh(model.config, width=width, seed=job.seed).to(job.device)
        outcomes = (
            fixed_outcomes(job, labels.rollouts)
            if labels.later is None
            else (later_outcomes(job, labels))
        )
        fit(head, outcomes, steps=steps, lr=lr, seed=job.seed, device=job.device)
        with_head(job.model, job.out, head)
        return _report(head, outcomes, device=job.device)


def judge(job: HeadJob, rollouts: Path, *, steps: int, lr: float, width: int) -> Path:
    """Write a head that judges paths of latent exploration to `job.out`, a model's folder; returns
    its file there.

    It learns from `rollouts` at fixed depths, the cap's states among them, where nobody decides to
    leave and paths are judged all the same. Raises ValueError where no rollout has a reward.
    """
    with head_process(job) as model:
        head = fresh(model.config, width=width, seed=job.seed).to(job.device)
        outcomes = fixed_outcomes(job, rollouts, at_cap=True)
        fit(head, outcomes, steps=steps, lr=lr, seed=job.seed, device=job.device)
    weights = {name: part.detach().cpu().clone() for name, part in head.state_dict().items()}
    write_whole(weights, job.out / RIGHT_HEAD)
    return job.out / RIGHT_HEAD


def fixed_outcomes(job: HeadJob, rollouts: Path, *, at_cap: bool = False) -> Outcomes:
    """Of completions whose tokens all ran at one depth: their states there, and their reward.
    `at_cap`: those at the cap count too."""
    with head_process(job) as model:
        scored = [s for s in read_scored(rollouts) if s.reward is not None]
        if not scored:
            raise ValueError(f"no rollout in {rollouts} has a reward: see their verdicts")
        runs = [s.rollout for s in scored]
        last = [_last_iterations(run, cap=job.max_depth + at_cap) for run in runs]
        last = _thinned(last, most=job.max_tokens, seed=job.seed)
        features = decision_features(model, runs, last, log_prices=[0.0] * len(runs), job=job)
    reward = torch.tensor([min(max(s.reward or 0.0, 0.0), 1.0) for s in scored])
    prompts = {run.prompt_id: n for n, run in enumerate(runs)}
    order = {prompt: n for n, prompt in enumerate(sorted(prompts))}
    held_out = torch.tensor([order[r.prompt_id] % HELD_OUT == HELD_OUT - 1 for r in runs])
    return Outcomes(
        features=features, right=reward[features.rollout], held_out=held_out[features.rollout]
    )


def later_outcomes(job: HeadJob, labels: RightLabels) -> Outcomes:
    """Of full-depth completions in which one token leaves early: the reward of the whole, times how
    much less likely the rest of the completion becomes."""
    assert labels.losses is not None
    assert labels.later is not None
    tokens = full_depth_tokens(job, labels.rollouts, labels.losses)
    tokens = probed_only(tokens, labels.rollouts, labels.later)
    reward = torch.tensor(
        [min(max(s.reward or 0.0, 0.0), 1.0) for s in read_scored(labels.rollouts)]
    )
    stays = (tokens.losses[-1] - tokens.losses[:-1]).clamp_max(0).exp()  # [R - 1, _M]
    features = tokens.features.at(decisions_at(tokens, torch.arange(tokens.losses.shape[1])))
    return Outcomes(
        features=features,
        right=stays.t().reshape(-1) * reward[features.rollout],
        held_out=tokens.held_out.repeat_interleave(tokens.decisions),
    )


def fit(
    head: HaltingPolicy,
    outcomes: Outcomes,
    *,
    steps: int,
    lr: float,
    seed: int,
    device: str = "cpu",
) -> None:
    """Cross-entropy with AdamW; the learning rate falls linearly to 0. The weights with the lowest
    loss on held-out completions stay: whether an answer is right says much of which it is."""
    optimizer = AdamW(head.parameters(), lr=lr, betas=(0.9, 0.99), weight_decay=WEIGHT_DECAY)
    generator = torch.Generator().manual_seed(seed)
    usable = _where(~outcomes.held_out)
    shown = _where(outcomes.held_out)
    shown = shown[torch.randperm(len(shown), generator=generator)[:REPORTED]]
    lowest, best = float("inf"), head.state_dict()
    for step in range(steps):
        optimizer.param_groups[0]["lr"] = lr * (1 - step / steps)
        count = min(BATCH_DECISIONS, len(usable))
        index = usable[torch.randint(len(usable), (count,), generator=generator)]
        logit = outcomes.features.at(index, device=device).logits(head)
        loss = F.binary_cross_entropy_with_logits(logit, 1 - outcomes.right[index].to(device))
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        if (step + 1) % CHECK_EVERY == 0 or step + 1 == steps:
            reached = _loss(head, outcomes, shown, device=device)
            if reached < lowest:
                lowest, best = reached, copy.deepcopy(head.state_dict())
    head.load_state_dict(best)


def _last_iterations(run: Rollout, *, cap: int) -> Decisions:
    """Each token's last iteration as a decision to stop, where it is under a cap: at one nobody
    decides."""
    depths = torch.tensor(run.depths or ())
    token = (depths < cap).nonzero()[:, 0]
    return Decisions(
        token=token, iteration=depths[token], goes_on=torch.zeros(len(token), dtype=torch.bool)
    )


def _thinned(last: list[Decisions], *, most: int, seed: int) -> list[Decisions]:
    """About `most` of them, drawn by the seed."""
    count = sum(len(one.token) for one in last)
    if count <= most:
        return last
    generator = torch.Generator().manual_seed(seed)
    thinned = []
    for one in last:
        stays = torch.rand(len(one.token), generator=generator) < most / count
        thinned.append(
            Decisions(
                token=one.token[stays],
                iteration=one.iteration[stays],
                goes_on=one.goes_on[stays],
            )
        )
    return thinned


@torch.no_grad()
def _report(head: HaltingPolicy, outcomes: Outcomes, *, device: str) -> dict[str, float]:
    index = _where(outcomes.held_out)
    right = outcomes.right[index]
    share = right.mean().expand_as(right)
    return {
        "loss": _loss(head, outcomes, index, device=device),
        "loss_constant": float(F.binary_cross_entropy(share, right)),
        "right": float(outcomes.right.mean()),
        "decisions": float(len(outcomes.right)),
    }


@torch.no_grad()
def _loss(head: HaltingPolicy, outcomes: Outcomes, index: Tensor, *, device: str) -> float:
    logit = outcomes.features.at(index, device=device).logits(head).cpu()
    return float(F.binary_cross_entropy_with_logits(logit, 1 - outcomes.right[index]))


def _where(chosen: Tensor) -> Tensor:
    index = chosen.nonzero()[:, 0]
    return index if len(index) else torch.arange(len(chosen))
