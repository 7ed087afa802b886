"""The token objective at replayed depths: values by hand, gradients token by token."""

from pathlib import Path

import pytest
import torch

from pipeline.depth.rl.joint_objective import (
    TokenTerms,
    group_advantages,
    recorded_logprobs,
    token_logprobs,
    token_terms,
)
from pipeline.records import Rollout
from pipeline.recurrent.model import RecurrentForCausalLM

CLIP, KL, TEMPERATURE = 0.2, 0.3, 0.8


def test_replayed_token_logprobs_are_the_engines(rollouts: list[Rollout], folder: Path) -> None:
    model = RecurrentForCausalLM.from_pretrained(folder).eval()
    found, mask = token_logprobs(model, rollouts, temperature=1.0, prompt_depth=2, device="cpu")
    for row, run in enumerate(rollouts):
        assert int(mask[row].sum()) == len(run.tokens)
    recorded = recorded_logprobs(rollouts, device="cpu")
    torch.testing.assert_close(found[mask], recorded[mask], rtol=1e-4, atol=1e-4)
    found.sum().backward()
    assert model.model.core[0].mlp.down_proj.weight.grad is not None  # type: ignore[union-attr]


def test_terms_by_hand() -> None:
    behaviour = torch.log(torch.tensor([[0.5, 0.5], [0.5, 0.5]]))
    logprob = torch.log(torch.tensor([[0.55, 0.9], [0.25, 0.1]])).requires_grad_()
    mask = torch.tensor([[True, True], [True, False]])
    found = terms(logprob, behaviour, mask, reference=behaviour)
    assert found.policy.item() == pytest.approx(-((1.1 + 1.2) / 2 - 0.8) / 2)  # by completion
    assert found.clipped_share.item() == pytest.approx((1 / 2 + 1) / 2)
    apart = [0.5 / p - 1 - float(torch.log(torch.tensor(0.5 / p))) for p in (0.55, 0.9, 0.25)]
    assert found.kl.item() == pytest.approx(((apart[0] + apart[1]) / 2 + apart[2]) / 2)
    found.policy.backward()
    assert logprob.grad is not None
    assert (logprob.grad != 0).tolist() == [[True, False], [False, False]]


def test_without_a_reference_there_is_no_kl() -> None:
    logprob = torch.tensor([[-1.0, -2.0]])
    assert terms(logprob, logprob, torch.ones(1, 2, dtype=torch.bool)).kl.item() == 0.0


def terms(
    logprob: torch.Tensor,
    behaviour: torch.Tensor,
    mask: torch.Tensor,
    *,
    reference: torch.Tensor | None = None,
) -> TokenTerms:
    return token_terms(
        logprob,
        behaviour_logprob=behaviour,
        advantage=torch.tensor([1.0, -1.0])[: len(logprob)],
        mask=mask,
        clip=CLIP,
        reference_logprob=reference,
    )


def test_advantages_are_within_the_group_and_scaled_by_its_spread() -> None:
    found = group_advantages([1.0, 0.0, 5.0, 0.0, 5.0, 9.0], ["a", "a", "b", "a", "b", "c"])
    std = (1 / 3) ** 0.5
    expected = [2 / 3 / std, -1 / 3 / std, 0.0, -1 / 3 / std, 0.0, 0.0]
    torch.testing.assert_close(found, torch.tensor(expected), rtol=1e-3, atol=0.0)


def loss(
    model: RecurrentForCausalLM,
    runs: list[Rollout],
    advantages: list[float],
    *,
    clip: float = CLIP,
) -> torch.Tensor:
    """The objective of a batch; the reference is a little off the model."""
    found, mask = token_logprobs(model, runs, temperature=TEMPERATURE, prompt_depth=2, device="cpu")
    recorded = recorded_logprobs(runs, device="cpu")
    parts = token_terms(
        found,
        behaviour_logprob=recorded,
        advantage=torch.tensor(advantages),
        mask=mask,
        clip=clip,
        reference_logprob=recorded - 0.1,
    )
    return parts.policy + KL * parts.kl


def token_by_token(
    model: RecurrentForCausalLM, runs: list[Rollout], advantages: list[float]
) -> torch.Tensor:
    """The same, every token from a pass of its own over the tokens before it."""
    losses = []
    for run, advantage in zip(runs, advantages, strict=True):
        assert run.depths is not None
        assert run.prompt_depth is not None
        before = len(run.prompt_tokens) - 1
        depths = (*[run.prompt_depth] * before, *run.depths)
        sequence = (*run.prompt_tokens, *run.tokens)
        mine = []
        for index, (token, recorded) in enumerate(zip(run.tokens, run.logprobs, strict=True)):
            end = len(run.prompt_tokens) + index
            seen, ran = torch.tensor([sequence[:end]]), torch.tensor([depths[:end]])
            logits = model(seen, depths=ran, use_cache=False).logits[0, -1]
            logprob = (logits / TEMPERATURE).log_softmax(-1)[token]
            ratio = (logprob - recorded).exp()
            gain = torch.minimum(ratio * advantage, ratio.clamp(1 - CLIP, 1 + CLIP) * advantage)
            apart = recorded - 0.1 - logprob
            mine.append(gain - KL * (apart.exp() - apart - 1))
        losses.append(-torch.stack(mine).mean())
    return torch.stack(losses).mean()


def gradients(model: RecurrentForCausalLM, value: torch.Tensor) -> dict[str, torch.Tensor]:
    named = {n: p for n, p in model.named_parameters() if not n.startswith("model.halting")}
    return dict(zip(named, torch.autograd.grad(value, list(named.values())), strict=True))


@pytest.mark.parametrize("last", [1, 2, None])
def test_gradients_are_those_of_every_token_on_its_own(
    rollouts: list[Rollout], folder: Path, last: int | None
) -> None:
    """`model`'s own truncated gradients are checked against unrolled ones with the model."""
    model = RecurrentForCausalLM.from_pretrained(folder).train()
    model.config.backprop_iterations = last
    runs, advantages = rollouts[:6], [1.0, -0.5, 0.7, -1.2, 0.0, 0.4]
    assert len({d for r in runs for d in r.depths or ()}) > 2
    ours = gradients(model, loss(model, runs, advantages))
    theirs = gradients(model, token_by_token(model, runs, advantages))
    for name in ours:
        torch.testing.assert_close(ours[name], theirs[name], rtol=1e-3, atol=2e-6, msg=name)
    model.config.backprop_iterations = None
    whole = gradients(model, loss(model, runs, advantages))
    core = "model.core.0.mlp.down_proj.weight"
    assert torch.equal(whole[core], ours[core]) == (last is None)


def test_gradients_are_the_losss_slope(rollouts: list[Rollout], folder: Path) -> None:
    model = RecurrentForCausalLM.from_pretrained(folder).train()
    runs, advantages = rollouts[:4], [1.0, -0.5, 0.7, -1.2]
    slopes = gradients(model, loss(model, runs, advantages, clip=9.0))
    generator = torch.Generator().manual_seed(3)
    step = 1e-3  # no clip at 9: its kinks have no slope
    for name in ("model.core.0.self_attn.k_proj.weight", "model.injection.adapter.weight"):
        weight = model.get_parameter(name)
        way = torch.randn(weight.shape, generator=generator) / weight.numel() ** 0.5
        values = []
        for sign in (1, -1):
            with torch.no_grad():
                weight += sign * step * way
                values.append(float(loss(model, runs, advantages, clip=9.0)))
                weight -= sign * step * way
        measured = (values[0] - values[1]) / (2 * step)
        assert measured == pytest.approx(float((slopes[name] * way).sum()), rel=0.02, abs=2e-4)
