"""The halting head's start, from labels: how much iterations improve the loss of what follows.

Labels tell hard tokens from easy ones, not hard ones that matter from those that do not: the
outcome has to teach that. So this is where policy gradients begin, and a baseline of its own.
"""

import math
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.optim import AdamW

from pipeline.depth.labels.label_rules import best_labels, step_labels
from pipeline.depth.model.features import Features
from pipeline.depth.model.frozen import head_process
from pipeline.depth.model.head import fresh, with_head
from pipeline.depth.model.replay import at_depth, decision_features, read_losses, recorded_decisions
from pipeline.depth.trainer_jobs import HeadJob
from pipeline.records import read_scored
from pipeline.recurrent.policy import HaltingPolicy

Labels = Literal["later", "best", "step"]

HELD_OUT = 10
"""Every tenth rollout is left out, to report on."""

BATCH_TOKENS = 512
_PRICES_REPORTED = 3


@dataclass(frozen=True, kw_only=True)
class Tokens:
    """Deciding tokens that ran at full depth, `_M` of them, each with R - 1 decisions."""

    features: Features  # [_M * (R - 1)], a token's decisions one after another
    losses: Tensor  # [R, _M] nats of the tokens that the decision answers for
    answers_for: Tensor  # [_M] how many those are: 1, or a segment's
    held_out: Tensor  # [_M] bool

    @property
    def decisions(self) -> int:
        """Decisions of each token."""
        return len(self.losses) - 1

    @property
    def to_fit(self) -> Tensor:
        """Indices of the tokens to learn from; all where none is left over."""
        return _indices(~self.held_out)

    @property
    def to_report(self) -> Tensor:
        """Indices of the held-out tokens; all where none is."""
        return _indices(self.held_out)


def _indices(chosen: Tensor) -> Tensor:
    index = chosen.nonzero()[:, 0]
    return index if len(index) else torch.arange(len(chosen))


def train(
    job: HeadJob,
    rollouts: Path,
    losses: Path,
    *,
    prices: tuple[float, float],
    steps: int,
    lr: float,
    bias: float,
    width: int = 32,
    labels: Labels = "best",
    later: Path | None = None,
    accuracy_gain: float = 1.0,
) -> dict[str, float]:
    """Write `job.model` with a halting head learned from labels to `job.out`.

    Args:
        rollouts: scored rollouts of the deepest model.
        losses: of the same rollouts, from `replay.losses_by_depth`.
        prices: lambda is drawn log-uniformly between the two, and told to the head.
        bias: added to the output's bias after training, towards deep; 0 for the baseline.
        width: hidden units.
        labels: "best" looks past a flat iteration, "step" (Ouro's) at the next one only, both at a
            token's own loss; "later" is "best" on the loss of all that follows.
        later: of the same rollouts, from `probes.later_losses`; for "later" only.
        accuracy_gain: of full depth over depth 1; what nats are exchanged for.

    Returns:
        label_loss and label_loss_constant: cross-entropy on held-out rollouts, and that of the
        best constant; nats_per_price; value_* and depth_* at the lowest, the middle and the
        highest price: mean loss plus priced iterations of the most likely decisions, and their
        depth, with value_fixed_* of the best fixed depth beside them (lower is better).
    """
    with head_process(job) as model:
        head = fresh(model.config, width=width, seed=job.seed).to(job.device)
        tokens = full_depth_tokens(job, rollouts, losses)
        rate = nats_per_price(tokens, accuracy_gain=accuracy_gain)
        if labels == "later":
            if later is None:
                raise ValueError('labels="later" needs the losses of `probes.later_losses`')
            tokens = probed_only(tokens, rollouts, later)
        fit(
            head,
            tokens,
            log_prices=(math.log(prices[0]), math.log(prices[1])),
            rate=rate,
            labels=labels,
            steps=steps,
            lr=lr,
            seed=job.seed,
            device=job.device,
        )
        report = {"nats_per_price": rate, **_report(head, tokens, prices, rate, labels, job.device)}
        with torch.no_grad():
            head.out.bias.add_(bias)
        with_head(job.model, job.out, head)
        return report


def full_depth_tokens(
    job: HeadJob, rollouts: Path, losses: Path, *, log_price: float = 0.0
) -> Tokens:
    """The deciding tokens of scored rollouts, replayed with every completion at full depth.

    Raises ValueError where `losses` are of other rollouts, or the depth leaves no decision.
    """
    with head_process(job) as model:
        runs = [
            at_depth(s.rollout, job.max_depth, prompt_depth=job.prompt_depth)
            for s in read_scored(rollouts)
        ]
        by_rollout = read_losses(losses)
        if [len(r.tokens) for r in runs] != [x.shape[1] for x in by_rollout]:
            raise ValueError(f"{losses} is not of the rollouts in {rollouts}: compute it again")
        decisions = recorded_decisions(runs, job)
        features = decision_features(
            model, runs, decisions, log_prices=[log_price] * len(runs), job=job
        )
    if not len(features):
        raise ValueError(f"max_depth={job.max_depth} leaves nothing to decide: set at least 2")
    width = job.max_depth - 1
    summed, counted = [], []
    for loss, choices in zip(by_rollout, decisions, strict=True):
        first = choices.token[::width]
        segment = torch.arange(loss.shape[1]) // job.segment
        sums = loss.new_zeros(len(loss), int(segment[-1]) + 1).index_add_(1, segment, loss)
        summed.append(sums[:, first // job.segment])
        counted.append(torch.bincount(segment)[first // job.segment])
    return Tokens(
        features=features,
        losses=torch.cat(summed, dim=1)[: job.max_depth],
        answers_for=torch.cat(counted),
        held_out=features.rollout[::width] % HELD_OUT == HELD_OUT - 1,
    )


def probed_only(tokens: Tokens, rollouts: Path, later: Path) -> Tokens:
    """Those of the deciding tokens that were probed, with the loss of all that follows them."""
    by_rollout = read_losses(later)
    if [len(s.rollout.tokens) for s in read_scored(rollouts)] != [x.shape[1] for x in by_rollout]:
        raise ValueError(f"{later} is not of the rollouts in {rollouts}: compute it again")
    first = slice(None, None, tokens.decisions)
    where = zip(
        tokens.features.rollout[first].tolist(), tokens.features.token[first].tolist(), strict=True
    )
    losses = torch.stack([by_rollout[rollout][:, token] for rollout, token in where], dim=1)
    probed = losses.isfinite().all(dim=0)
    index = probed.nonzero()[:, 0]
    return Tokens(
        features=tokens.features.at(decisions_at(tokens, index)),
        losses=losses[:, index],
        answers_for=tokens.answers_for[index],
        held_out=tokens.held_out[index],
    )


def nats_per_price(tokens: Tokens, *, accuracy_gain: float) -> float:
    """Nats of one token's loss that an iteration must gain at lambda = 1.

    At lambda = 1 a full-depth completion, R iterations for each token, is worth one point of
    accuracy; iterations 2 to R gained `accuracy_gain` points and, by the token, a mean loss.
    """
    gain = (tokens.losses[0] - tokens.losses[-1]).sum() / tokens.answers_for.sum()
    return max(float(gain), 1e-4) / (max(accuracy_gain, 0.05) * len(tokens.losses))


def targets(tokens: Tokens, index: Tensor, price: Tensor, *, labels: Labels) -> Tensor:
    """[M * (R - 1)] labels of tokens `index` [M] at `price` [M] nats for each of their iterations,
    in the order of their decisions."""
    losses, price = tokens.losses[:, index], price * tokens.answers_for[index]
    labelled = (
        step_labels(losses, margin=price) if labels == "step" else best_labels(losses, price=price)
    )
    return labelled.t().reshape(-1)


def decisions_at(tokens: Tokens, index: Tensor) -> Tensor:
    """[M * (R - 1)] places of the decisions of tokens `index` [M]."""
    width = tokens.decisions
    return (index[:, None] * width + torch.arange(width)).reshape(-1)


def fit(
    head: HaltingPolicy,
    tokens: Tokens,
    *,
    log_prices: tuple[float, float],
    rate: float,
    labels: Labels,
    steps: int,
    lr: float,
    seed: int,
    device: str = "cpu",
) -> None:
    """Cross-entropy on labels at drawn prices; the learning rate falls linearly to 0."""
    optimizer = AdamW(head.parameters(), lr=lr, betas=(0.9, 0.99), weight_decay=0.01)
    generator = torch.Generator().manual_seed(seed)
    usable = tokens.to_fit
    low, high = log_prices
    for step in range(steps):
        optimizer.param_groups[0]["lr"] = lr * (1 - step / steps)
        drawn = torch.randint(len(usable), (min(BATCH_TOKENS, len(usable)),), generator=generator)
        index = usable[drawn]
        log_price = low + (high - low) * torch.rand(len(index), generator=generator)
        label = targets(tokens, index, rate * log_price.exp(), labels=labels)
        part = tokens.features.at(decisions_at(tokens, index), device=device)
        prices = log_price.repeat_interleave(tokens.decisions).to(device)
        loss = F.binary_cross_entropy_with_logits(
            part.logits(head, log_price=prices), label.to(device)
        )
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()


@torch.no_grad()
def _report(
    head: HaltingPolicy,
    tokens: Tokens,
    prices: tuple[float, float],
    rate: float,
    labels: Labels,
    device: str,
) -> dict[str, float]:
    index = tokens.to_report
    part = tokens.features.at(decisions_at(tokens, index), device=device)
    losses, counts = tokens.losses[:, index], tokens.answers_for[index]
    depths = torch.arange(1, len(losses) + 1)[:, None]
    report: dict[str, float] = {}
    entropies, constants = [], []
    exponents = torch.linspace(math.log(prices[0]), math.log(prices[1]), _PRICES_REPORTED)
    for name, log_price in zip(("low", "middle", "high"), exponents.tolist(), strict=True):
        nats = rate * math.exp(log_price)
        label = targets(tokens, index, torch.full((len(index),), nats), labels=labels)
        logit = part.logits(head, log_price=torch.full((len(label),), log_price).to(device)).cpu()
        entropies.append(F.binary_cross_entropy_with_logits(logit, label))
        share = label.mean().expand_as(label)
        constants.append(F.binary_cross_entropy(share, label))
        goes_on = (logit > 0).view(len(index), -1).long().cumprod(dim=1)
        depth = 1 + goes_on.sum(dim=1)
        total = (losses + nats * counts * depths) / counts.float().mean()
        report[f"depth_{name}"] = float(depth.float().mean())
        report[f"value_{name}"] = float(total.gather(0, depth[None] - 1).mean())
        report[f"value_fixed_{name}"] = float(total.mean(dim=1).min())
    report["label_loss"] = float(torch.stack(entropies).mean())
    report["label_loss_constant"] = float(torch.stack(constants).mean())
    return report
