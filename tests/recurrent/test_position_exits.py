"""Every rule decides on the newest position as it says, and its depths replay."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor

from pipeline.recurrent.counter import DEPTH, uniform
from pipeline.recurrent.model import RecurrentForCausalLM
from pipeline.recurrent.request import DepthRequest
from tests.recurrent.decoding import (
    REQUESTS,
    SEEDS,
    STEPS,
    TOKENS,
    named,
    replayed,
    rolled,
)

MakeModel = Callable[..., RecurrentForCausalLM]


@pytest.mark.parametrize("request_", REQUESTS, ids=named)
@torch.no_grad()
def test_recorded_depths_replay(model: RecurrentForCausalLM, request_: DepthRequest) -> None:
    seen = rolled(model, request_)
    out = replayed(model, request_, seen)
    torch.testing.assert_close(out.logits[:, -STEPS:], seen["logits"], atol=2e-5, rtol=1e-5)
    depths = seen["depths"]
    assert int(depths.min()) >= request_.min_depth
    assert int(depths.max()) <= request_.deepest
    if request_.rule == "fixed":
        assert bool((depths == 3).all())
    elif request_.rule == "schedule":
        assert depths[0].tolist() == [4, 1, 6, 3, 2, 2, 2]
    else:
        assert len(depths.unique()) > 1


def signal(model: RecurrentForCausalLM, rule: str, states: list[Tensor], read: Any) -> Tensor:
    """What a rule compares with its threshold after the last of `states` s_0 .. s_i [h]."""
    state, previous = states[-1], states[-2]
    norm = state.norm()
    if rule == "latent":
        return (state - previous).norm() / norm
    if rule == "second_order":
        if len(states) < 3:
            return torch.tensor(torch.inf)
        return ((state - previous) - (previous - states[-3])).norm() / norm
    if rule == "q_exit":
        gate: Any = model.model.exit_gate
        stay = torch.stack([1 - torch.sigmoid(gate(s))[0] for s in states[1:]])
        return stay.prod()  # stops at 1 - stay >= threshold
    if rule == "right":
        halting: Any = model.model.halting
        iteration = torch.tensor([len(states) - 1])
        not_yet = halting(state[None], previous[None], iteration, torch.zeros(1))
        return torch.sigmoid(not_yet)[0]
    now = read(len(states) - 1).log_softmax(-1)
    if rule == "entropy":
        return -(now.exp() * now).sum()
    if len(states) < 3:
        return torch.tensor(torch.inf)
    then = read(len(states) - 2).log_softmax(-1)
    return (now.exp() * (now - then)).sum()


@pytest.mark.parametrize("request_", [r for r in REQUESTS if r.threshold], ids=named)
@torch.no_grad()
def test_threshold_rules_stop_at_the_first_crossing(
    model: RecurrentForCausalLM, request_: DepthRequest
) -> None:
    """The last prompt position's depth, from states and predictions of fixed-depth passes."""
    assert request_.threshold is not None
    out = model(TOKENS, depth_request=request_)
    for row in range(4):
        tokens, prompt = TOKENS[row : row + 1], request_.prefill_depth

        def at(depth: int) -> Any:
            depths = torch.tensor([[prompt] * 5 + [depth]])  # noqa: B023
            return model(tokens, depths=depths, output_hidden_states=True, use_cache=False)  # noqa: B023

        states = [state[0, -1] for state in at(request_.depth).hidden_states]
        reaches = request_.rule in ("q_exit", "right")
        limit = 1 - request_.threshold if reaches else request_.threshold
        expected = request_.depth
        for depth in range(request_.min_depth, request_.depth):
            read = lambda d: at(d).logits[0, -1]  # noqa: E731
            if signal(model, request_.rule, states[: depth + 1], read) < limit:
                expected = depth
                break
        assert int(out.depths[row, -1]) == expected


@torch.no_grad()
def test_sampled_decisions_are_recomputed_from_the_replay(
    model: RecurrentForCausalLM,
) -> None:
    request = REQUESTS[8]
    seen = rolled(model, request)
    states = replayed(model, request, seen).hidden_states
    halting: Any = model.model.halting
    positions = (seen["mask"].cumsum(1) - 1)[:, -STEPS - 1 : -1]
    for row in range(4):
        for step in range(STEPS):
            depth, total = int(seen["depths"][row, step]), 0.0
            for iteration in range(request.min_depth, min(depth, request.depth - 1) + 1):
                state, previous = (
                    states[i][row, step - STEPS][None] for i in (iteration, iteration - 1)
                )
                logit = halting(
                    state, previous, torch.tensor([iteration]), torch.tensor([request.log_price])
                )
                goes_on = iteration < depth
                draw = uniform(SEEDS[row], positions[row, step], iteration, stream=DEPTH)
                assert goes_on == bool(draw < torch.sigmoid(logit[0].double()))
                total += float(torch.nn.functional.logsigmoid(logit if goes_on else -logit))
            assert float(seen["depth_logprobs"][row, step]) == pytest.approx(total, abs=1e-4)
    assert bool(seen["depth_logprobs"].any())


@torch.no_grad()
def test_a_segment_shares_its_first_decision(model: RecurrentForCausalLM) -> None:
    seen = rolled(model, REQUESTS[9])
    depths, chances = seen["depths"], seen["depth_logprobs"]
    for start in range(0, STEPS, 3):
        assert bool((depths[:, start : start + 3] == depths[:, start : start + 1]).all())
        assert bool(chances[:, start].all())
        assert not bool(chances[:, start + 1 : start + 3].any())
    assert len(depths[:, ::3].unique()) > 1


@torch.no_grad()
def test_draws_follow_the_seed_not_the_batch(model: RecurrentForCausalLM) -> None:
    request = DepthRequest(rule="policy", depth=8, sampled=True)
    seeds = torch.arange(40)
    tokens = TOKENS[:1].expand(40, -1)
    whole = model(tokens, depth_request=request, depth_seed=seeds).depths[:, -1]
    some = model(tokens[:5], depth_request=request, depth_seed=seeds[7:12]).depths[:, -1]
    assert torch.equal(whole[7:12], some)
    assert len(whole.unique()) > 1


@pytest.mark.parametrize(
    ("rule", "message"),
    [("policy", "halting policy"), ("q_exit", "exit gate"), ("kl", "not its backbone")],
)
def test_rules_name_what_the_model_lacks(make_model: MakeModel, rule: Any, message: str) -> None:
    plain: Any = make_model()
    request = DepthRequest(rule=rule, depth=4, threshold=0.1)
    with pytest.raises(ValueError, match=message):
        (plain.model if rule == "kl" else plain)(TOKENS, depth_request=request)
