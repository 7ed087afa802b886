"""Policy-gradient epochs on decisions whose features and advantages are known."""

from collections.abc import Iterable
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn.utils import clip_grad_norm_
from torch.optim import AdamW, Optimizer

from pipeline.depth.model.features import Features, all_logits
from pipeline.depth.rl.losses import halting_terms
from pipeline.depth.trainer_jobs import RlUpdate
from pipeline.recurrent.counter import uniform
from pipeline.recurrent.policy import HaltingPolicy, decision_logprob

_SHUFFLE = 101  # stream of the order of decisions


@dataclass(frozen=True, kw_only=True)
class Batch:
    """A step's decisions with their credit."""

    features: Features
    advantage: Tensor  # [_N] reward points


def head_optimizer(head: HaltingPolicy, *, lr: float) -> AdamW:
    """The optimizer that `improve` drives."""
    return AdamW(head.parameters(), lr=lr, betas=(0.9, 0.99), weight_decay=0.0)


def improve(
    head: HaltingPolicy,
    optimizer: Optimizer,
    batch: Batch,
    *,
    reference: HaltingPolicy,
    spec: RlUpdate,
    max_depth: int,
    seed: int,
    device: str = "cpu",
) -> dict[str, float]:
    """Several epochs over one step's decisions; `head` and `optimizer` change in place.

    The behaviour is the head as it is on entry.

    Returns:
        policy (loss), entropy and kl to the `reference` (nats per decision), clipped_share,
        grad_norm: means over minibatches.
    """
    features = batch.features
    behaviour = decision_logprob(all_logits(features, head, device=device), features.goes_on)
    reference_logit = all_logits(features, reference, device=device)
    unit = 1.0 / (max_depth * spec.ref_tokens)  # an iteration's cost at lambda = 1
    steps: list[tuple[float, ...]] = []
    for order in _minibatches(len(features), spec=spec, seed=seed):
        part = features.at(order, device=device)
        terms = halting_terms(
            part.logits(head),
            goes_on=part.goes_on,
            advantage=batch.advantage[order].to(device),
            behaviour_logprob=behaviour[order].to(device),
            reference_logit=reference_logit[order].to(device),
            clip=spec.clip,
        )
        optimizer.zero_grad()
        (terms.policy - unit * spec.entropy * terms.entropy).backward()
        norm = clip_grad_norm_(head.parameters(), spec.max_grad_norm)
        optimizer.step()
        parts = (terms.policy, terms.entropy, terms.kl, terms.clipped_share, norm)
        steps.append(tuple(float(x.detach()) for x in parts))
    names = ("policy", "entropy", "kl", "clipped_share", "grad_norm")
    means = torch.tensor(steps, dtype=torch.double).mean(dim=0).tolist()
    return dict(zip(names, means, strict=True))


def _minibatches(count: int, *, spec: RlUpdate, seed: int) -> Iterable[Tensor]:
    """Indices of each minibatch, every decision once an epoch, in an order of its own."""
    for epoch in range(spec.epochs):
        turn = spec.step * spec.epochs + epoch
        drawn = uniform(torch.tensor(seed), torch.arange(count), turn, stream=_SHUFFLE)
        yield from drawn.argsort(stable=True).chunk(spec.minibatches)
