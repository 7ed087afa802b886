"""The objective of halting decisions against closed forms."""

import pytest
import torch
from torch import Tensor

from pipeline.depth.model.decisions import decisions_of, remaining_iterations
from pipeline.depth.rl.losses import halting_terms

ACCURACY = torch.tensor([0.1, 0.3, 0.9])  # of a token at depth 1, 2, 3
PRICE = 0.2


def _chances(logits: Tensor) -> Tensor:
    """P(depth) for depths 1, 2, 3 of a policy with a logit after each of two iterations."""
    first, second = torch.sigmoid(logits)
    return torch.stack((1 - first, first * (1 - second), first * second))


def test_the_expected_gradient_is_the_analytic_policy_gradient() -> None:
    logits = torch.tensor([0.3, -0.7], requires_grad=True)
    objective = (_chances(logits) * (ACCURACY - PRICE * torch.arange(1.0, 4.0))).sum()
    (wanted,) = torch.autograd.grad(objective, logits)

    found = torch.zeros(2)
    for depth, chance in enumerate(_chances(logits).tolist(), start=1):
        made = decisions_of([depth], cap=3)
        logit = logits[made.iteration - 1]
        remaining = remaining_iterations(made, [depth])
        terms = halting_terms(
            logit,
            goes_on=made.goes_on,
            advantage=ACCURACY[depth - 1] - 0.4 - PRICE * (remaining - 0.8),  # any baselines
            behaviour_logprob=_logprob(logit, made.goes_on).detach(),
            reference_logit=torch.zeros_like(logit),
            clip=0.2,
        )
        policy = len(logit) * terms.policy  # the sum over decisions
        found -= chance * torch.autograd.grad(policy, logits, allow_unused=True)[0]
    assert found.tolist() == pytest.approx(wanted.tolist(), abs=1e-6)


def test_a_ratio_outside_the_clip_has_no_gradient_in_its_favour() -> None:
    logit = torch.tensor([2.0], requires_grad=True)
    terms = _terms(logit, advantage=1.0, behaviour=-3.0)
    assert torch.autograd.grad(terms.policy, logit)[0].item() == 0.0
    assert terms.clipped_share.item() == 1.0
    against = _terms(logit, advantage=-1.0, behaviour=-3.0)
    assert torch.autograd.grad(against.policy, logit)[0].item() > 0.0


def test_entropy_and_kl() -> None:
    even = _terms(torch.zeros(1), advantage=0.0, behaviour=-0.6931)
    assert even.entropy.item() == pytest.approx(0.6931, abs=1e-4)
    assert even.kl.item() == pytest.approx(0.0, abs=1e-7)
    assert _terms(torch.full((1,), 2.0), advantage=0.0, behaviour=0.0).kl.item() > 0.3


def _terms(logit: Tensor, *, advantage: float, behaviour: float):  # noqa: ANN202
    return halting_terms(
        logit,
        goes_on=torch.tensor([True]),
        advantage=torch.tensor([advantage]),
        behaviour_logprob=torch.tensor([behaviour]),
        reference_logit=torch.zeros(1),
        clip=0.2,
    )


def _logprob(logit: Tensor, goes_on: Tensor) -> Tensor:
    return torch.nn.functional.logsigmoid(torch.where(goes_on, logit, -logit))
