"""The token loss at replayed depths."""

from pathlib import Path

import pytest
import torch

from pipeline.records import Rollout
from pipeline.recurrent.model import RecurrentForCausalLM
from pipeline.train.depth.joint import token_logprobs, token_loss


def test_replayed_token_logprobs_are_the_engines(rollouts: list[Rollout], folder: Path) -> None:
    model = RecurrentForCausalLM.from_pretrained(folder).eval()
    found, mask = token_logprobs(model, rollouts, temperature=1.0, prompt_depth=2, device="cpu")
    for row, run in enumerate(rollouts):
        assert int(mask[row].sum()) == len(run.tokens)
        recorded = torch.tensor(run.logprobs)
        torch.testing.assert_close(found[row][mask[row]], recorded.float(), rtol=1e-4, atol=1e-4)
    found.sum().backward()
    assert model.model.core[0].mlp.down_proj.weight.grad is not None  # type: ignore[union-attr]


def test_loss_by_hand() -> None:
    behaviour = torch.log(torch.tensor([[0.5, 0.5], [0.5, 0.5]]))
    logprob = torch.log(torch.tensor([[0.55, 0.9], [0.25, 0.1]])).requires_grad_()
    mask = torch.tensor([[True, True], [True, False]])
    loss = token_loss(
        logprob,
        behaviour_logprob=behaviour,
        advantage=torch.tensor([1.0, -1.0]),
        mask=mask,
        clip=0.2,
    )
    assert loss.item() == pytest.approx(-(1.1 + 1.2 - 0.8) / 3)
    loss.backward()
    assert logprob.grad is not None
    assert (logprob.grad != 0).tolist() == [[True, False], [False, False]]


def test_kl_is_zero_at_the_reference_and_needs_one() -> None:
    logprob = torch.tensor([[-1.0, -2.0]])
    mask = torch.ones(1, 2, dtype=torch.bool)
    zero = torch.zeros(1)

    def loss(reference: torch.Tensor | None) -> float:
        return token_loss(
            logprob,
            behaviour_logprob=logprob,
            advantage=zero,
            mask=mask,
            clip=0.2,
            reference_logprob=reference,
            kl=0.5,
        ).item()

    assert loss(logprob) == 0.0
    assert loss(logprob - 1) == pytest.approx(0.5 * (torch.e**-1 + 1 - 1))
    with pytest.raises(ValueError, match="needs reference_logprob"):
        loss(None)
