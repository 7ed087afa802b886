"""Tokens of older weights: the closed form of their loss and gradient, and what is measured."""

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from pipeline.train.grpo_loss import TRUNCATION_CAP, Objective, Tokens, Totals, loss
from pipeline.train.stale_tokens import stale_metrics, stale_sums

OBJECTIVE = Objective.of(variant="dapo", clip=0.2, kl=0.0, max_tokens=8)


def gradient(new: float, old: float, engine: float, advantage: float) -> tuple[float, float]:
    """Loss of one token, and its gradient by the new log-probability."""
    logprobs = torch.tensor([new], dtype=torch.float64, requires_grad=True)

    def tensor(value: float) -> Tensor:
        return torch.tensor([value], dtype=torch.float64)

    result = loss(
        Tokens(
            logprobs=logprobs,
            old=tensor(old),
            engine=tensor(engine),
            advantages=tensor(advantage),
            rows=torch.tensor([0]),
            lengths=torch.tensor([1]),
        ),
        OBJECTIVE,
        Totals(rows=1, tokens=1),
    ).loss
    result.backward()
    assert logprobs.grad is not None
    return result.item(), logprobs.grad.item()


@given(
    st.floats(-4, -0.01),
    st.floats(-4, -0.01),
    st.floats(-4, -0.01),
    st.floats(-3, 3).filter(lambda a: abs(a) > 1e-3),
)
def test_ratio_to_the_old_policy_is_clipped_and_that_to_the_engine_truncated(
    new: float, old: float, engine: float, advantage: float
) -> None:
    ratio = math.exp(new - old)
    bounded = min(max(ratio, 0.8), 1.2)
    weight = min(math.exp(old - engine), TRUNCATION_CAP)
    value, slope = gradient(new, old, engine, advantage)
    assert value == pytest.approx(-min(ratio * advantage, bounded * advantage) * weight)
    if abs(ratio - 0.8) > 1e-6 and abs(ratio - 1.2) > 1e-6:
        moved = ratio * advantage <= bounded * advantage
        assert slope == pytest.approx(-ratio * advantage * weight if moved else 0.0)


@given(st.floats(-4, -0.01), st.floats(-4, -0.01), st.floats(0.01, 3))
def test_one_update_of_a_step_is_aipo(old: float, engine: float, advantage: float) -> None:
    """AIPO's gradient is min(policy / engine, cap) A of the log-probability."""
    _, slope = gradient(old, old, engine, advantage)
    assert slope == pytest.approx(-min(math.exp(old - engine), TRUNCATION_CAP) * advantage)


def test_importance_weights_without_a_cap_are_unbiased() -> None:
    """The mean of old / engine over the engine's own draws is 1, their KL estimate the KL."""
    engine = torch.tensor([0.5, 0.3, 0.2], dtype=torch.float64)
    old = torch.tensor([0.4, 0.35, 0.25], dtype=torch.float64)
    kl = (engine * (engine / old).log()).sum()
    each = [
        stale_sums(old=o.log()[None], engine=e.log()[None], staleness=torch.tensor([1]))
        for o, e in zip(old, engine, strict=True)
    ]
    mean = sum((p * sums[2] for p, sums in zip(engine, each, strict=True)), torch.tensor(0.0))
    assert mean.item() == pytest.approx(kl.item(), abs=1e-12)


def test_only_stale_tokens_are_measured() -> None:
    sums = stale_sums(
        old=torch.tensor([-1.0, -1.0, -0.5, -3.0]),
        engine=torch.tensor([-9.0, -1.0, -2.0, -3.0]),
        staleness=torch.tensor([0, 1, 1, 2]),
    )
    row = stale_metrics(sums, tokens=4)
    assert row == pytest.approx(
        {"staleness": 1.0, "stale_kl": (math.exp(1.5) - 2.5) / 3, "capped_share": 1 / 3}
    )
    fresh = stale_sums(
        old=torch.zeros(2), engine=torch.ones(2), staleness=torch.zeros(2, dtype=torch.long)
    )
    assert stale_metrics(fresh, tokens=2) == {}
