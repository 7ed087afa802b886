"""The halting policy reads what it says it reads, and its decisions are Bernoulli."""

import math

import pytest
import torch

from pipeline.recurrent.policy import HaltingPolicy, decision_logprob, relative_change


def inputs(rows: int = 3) -> list[torch.Tensor]:
    generator = torch.Generator().manual_seed(1)
    state, previous = (torch.randn(rows, 16, generator=generator) for _ in range(2))
    return [state, previous, torch.full((rows,), 2), torch.zeros(rows)]


@pytest.mark.parametrize("index", range(4))
def test_every_input_matters(index: int) -> None:
    torch.manual_seed(0)
    policy = HaltingPolicy(16, width=8, max_iterations=5)
    given = inputs()
    before = policy(*given)
    assert (before.shape, before.dtype) == ((3,), torch.float32)
    given[index] = given[index] + 1
    assert (policy(*given) - before).abs().min() > 1e-5


def test_rows_decide_alone_and_half_precision_works() -> None:
    torch.manual_seed(0)
    policy = HaltingPolicy(16, width=8, max_iterations=5)
    given = inputs()
    whole = policy(*given)
    torch.testing.assert_close(policy(*[value[1:2] for value in given]), whole[1:2])
    half = policy.to(torch.bfloat16)
    out = half(given[0].bfloat16(), given[1].bfloat16(), given[2], given[3])
    assert out.dtype == torch.float32
    torch.testing.assert_close(out, whole, atol=0.05, rtol=0.05)


def test_a_state_at_rest_or_at_zero_is_finite() -> None:
    policy = HaltingPolicy(16, width=8, max_iterations=5)
    zero = torch.zeros(2, 16)
    assert bool(
        policy(zero, zero, torch.ones(2, dtype=torch.long), torch.zeros(2)).isfinite().all()
    )
    assert relative_change(zero, zero).tolist() == [0.0, 0.0]
    assert relative_change(torch.tensor([[3.0, 4.0]]), torch.tensor([[0.0, 4.0]])).item() == (
        pytest.approx(0.6)
    )


def test_logprobs_are_of_the_decision_taken() -> None:
    logit = torch.tensor([0.3, 0.3, -60.0, 60.0])
    goes_on = torch.tensor([True, False, True, False])
    p = 1 / (1 + math.exp(-0.3))
    expected = [math.log(p), math.log(1 - p), -60.0, -60.0]
    assert decision_logprob(logit, goes_on).tolist() == pytest.approx(expected, rel=1e-5)
