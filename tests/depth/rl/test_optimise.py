"""The step on the head against the policy gradient worked by hand."""

import math

import pytest
import torch
from torch import Tensor

from pipeline.depth.model.features import Features
from pipeline.depth.rl.optimise import Batch, head_optimizer, improve
from pipeline.depth.trainer_jobs import RlUpdate
from pipeline.recurrent.policy import HaltingPolicy

WIDTH, DEPTH = 6, 4
SPEC = RlUpdate(
    step=0,
    log_prices={},
    ref_tokens=4.0,
    lr=1e-2,
    epochs=1,
    minibatches=1,
    clip=0.2,
    entropy=0.0,
    max_grad_norm=math.inf,
)


def head_with(probability: float) -> HaltingPolicy:
    """Goes on with one probability, whatever it reads."""
    head = HaltingPolicy(WIDTH, width=4, max_iterations=DEPTH)
    with torch.no_grad():
        head.out.weight.zero_()
        head.out.bias.fill_(math.log(probability / (1 - probability)))
    return head


def one_token(depth: int) -> Features:
    """The decisions of a token that ran `depth` iterations under DEPTH."""
    count = min(depth, DEPTH - 1)
    iteration = torch.arange(1, count + 1)
    return Features(
        state=torch.randn(count, WIDTH, generator=torch.Generator().manual_seed(0)),
        previous=torch.zeros(count, WIDTH),
        iteration=iteration,
        log_price=torch.zeros(count),
        goes_on=iteration < depth,
        token=torch.zeros(count, dtype=torch.long),
        rollout=torch.zeros(count, dtype=torch.long),
    )


def bias_gradient(depth: int, *, probability: float) -> float:
    """Gradient on the output's bias of a token that earned one point."""
    head = head_with(probability)
    features = one_token(depth)
    seen: list[Tensor] = []
    head.out.bias.register_hook(seen.append)
    improve(
        head,
        head_optimizer(head, lr=SPEC.lr),
        Batch(features=features, advantage=torch.ones(len(features))),
        reference=head_with(probability),
        spec=SPEC,
        max_depth=DEPTH,
        seed=0,
    )
    (gradient,) = seen
    return float(gradient)


@pytest.mark.parametrize(
    ("depth", "gradient"),
    [(4, 3 * 0.7 / 3), (2, (0.7 - 0.3) / 2), (1, -0.3)],
)
def test_the_gradient_is_the_analytic_policy_gradient(depth: int, gradient: float) -> None:
    """Of mean log-probability: 1 - p for going on, -p for stopping; the loss descends."""
    assert bias_gradient(depth, probability=0.3) == pytest.approx(-gradient, rel=1e-4)
