"""Depth requests in the model: every rule, in `forward` and in `generate`, and their replay."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor

from pipeline.recurrent.counter import DEPTH, uniform
from pipeline.recurrent.model import RecurrentForCausalLM
from pipeline.recurrent.request import DepthRequest

MakeModel = Callable[..., RecurrentForCausalLM]

TOKENS = torch.randint(1, 40, (4, 6), generator=torch.Generator().manual_seed(4))
MASK = torch.tensor([[1] * 6, [0, 1, 1, 1, 1, 1], [0, 0, 0, 1, 1, 1], [1] * 6])
PADDED = TOKENS * MASK
SEEDS = torch.tensor([11, 12, 13, 14])
STEPS = 7

# thresholds at which the tiny model's tokens differ in depth
REQUESTS = [
    DepthRequest(rule="fixed", depth=3, prompt_depth=2),
    DepthRequest(rule="schedule", depth=2, schedule=(4, 1, 6, 3)),
    DepthRequest(rule="kl", depth=6, threshold=0.05),
    DepthRequest(rule="latent", depth=6, threshold=0.35, min_depth=2),
    DepthRequest(rule="entropy", depth=5, threshold=3.3),
    DepthRequest(rule="second_order", depth=6, threshold=0.5),
    DepthRequest(rule="q_exit", depth=6, threshold=0.85),
    DepthRequest(rule="policy", depth=6),
    DepthRequest(rule="policy", depth=6, prompt_depth=1, sampled=True, log_price=0.5, min_depth=2),
    DepthRequest(rule="policy", depth=6, sampled=True, segment=3),
]


def named(request: DepthRequest) -> str:
    return f"{request.rule}{'-sampled' * request.sampled}{'-segment' * (request.segment > 1)}"


@pytest.fixture(scope="module")
def model(make_model: MakeModel) -> RecurrentForCausalLM:
    model = make_model(exit_gate=True, halting_width=16, state_init="normal")
    halting: Any = model.model.halting
    with torch.no_grad():
        halting.out.weight *= 8
    return model


@torch.no_grad()
def rolled(model: RecurrentForCausalLM, request: DepthRequest) -> dict[str, Tensor]:
    """Greedy decoding by calls of the model: tokens [B, P + n], what was recorded [B, n]."""
    tokens, mask, cache, pieces = PADDED, MASK, None, []
    for step in range(STEPS):
        out = model(
            tokens if step == 0 else tokens[:, -1:],
            attention_mask=mask,
            past_key_values=cache,
            depth_request=request,
            depth_seed=SEEDS,
            use_cache=True,
        )
        cache = out.past_key_values
        assert out.depths is not None
        pieces.append((out.logits[:, -1:], out.depths[:, -1:], out.depth_logprobs[:, -1:]))
        if step == 0:
            assert bool((out.depths[:, :-1] == request.prefill_depth).all())
            assert not bool(out.depth_logprobs[:, :-1].any())
        tokens = torch.cat((tokens, out.logits[:, -1].argmax(-1, keepdim=True)), dim=1)
        mask = torch.cat((mask, torch.ones_like(mask[:, :1])), dim=1)
    names = ("logits", "depths", "depth_logprobs")
    pasted = [torch.cat(piece, dim=1) for piece in zip(*pieces, strict=True)]
    return dict(zip(names, pasted, strict=True)) | {"tokens": tokens, "mask": mask}


def replayed(model: RecurrentForCausalLM, request: DepthRequest, seen: dict[str, Tensor]) -> Any:
    """One parallel pass at the recorded depths, with the states of all iterations."""
    prompt = torch.full_like(PADDED[:, :-1], request.prefill_depth)
    return model(
        seen["tokens"][:, :-1],
        attention_mask=seen["mask"][:, :-1],
        depths=torch.cat((prompt, seen["depths"]), dim=1),
        output_hidden_states=True,
        use_cache=False,
    )


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
        limit = 1 - request_.threshold if request_.rule == "q_exit" else request_.threshold
        expected = request_.depth
        for depth in range(request_.min_depth, request_.depth):
            read = lambda d: at(d).logits[0, -1]  # noqa: E731
            if signal(model, request_.rule, states[: depth + 1], read) < limit:
                expected = depth
                break
        assert int(out.depths[row, -1]) == expected


@torch.no_grad()
def test_sampled_decisions_are_recomputed_from_the_replay(model: RecurrentForCausalLM) -> None:
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


@pytest.mark.parametrize("request_", REQUESTS, ids=named)
@torch.no_grad()
def test_generate_follows_the_request(model: RecurrentForCausalLM, request_: DepthRequest) -> None:
    seen = rolled(model, request_)
    options: dict[str, Any] = {"depth_request": request_, "depth_seed": SEEDS}
    tokens = model.generate(
        PADDED, attention_mask=MASK, max_new_tokens=STEPS, do_sample=False, **options
    )
    assert torch.equal(tokens, seen["tokens"])


@torch.no_grad()
def test_generate_samples_several_and_searches_beams(model: RecurrentForCausalLM) -> None:
    several = model.generate(
        PADDED, attention_mask=MASK, max_new_tokens=3, do_sample=True, num_return_sequences=2
    )
    assert several.shape == (8, 9)
    request = DepthRequest(rule="schedule", depth=2, schedule=(3, 1))
    beams = model.generate(
        PADDED,
        attention_mask=MASK,
        max_new_tokens=4,
        do_sample=False,
        num_beams=3,
        num_return_sequences=3,
        depth_request=request,
        return_dict_in_generate=True,
        output_scores=True,
    )
    depths = torch.tensor([2] * 5 + [3, 1, 2, 2]).expand(12, -1)
    mask = torch.cat((MASK.repeat_interleave(3, 0), torch.ones(12, 3, dtype=torch.long)), dim=1)
    out = model(beams.sequences[:, :-1], attention_mask=mask, depths=depths, use_cache=False)
    chosen = beams.sequences[:, 6:, None]
    logprobs = out.logits[:, 5:].log_softmax(-1).gather(2, chosen).sum((1, 2))
    torch.testing.assert_close(logprobs / 4, beams.sequences_scores, atol=1e-4, rtol=1e-4)


@torch.no_grad()
def test_beams_carry_their_warm_states(make_model: MakeModel) -> None:
    model = make_model(warm_start=True)
    beams = model.generate(
        TOKENS,
        max_new_tokens=5,
        do_sample=False,
        num_beams=3,
        return_dict_in_generate=True,
        output_scores=True,
    )
    out = model(beams.sequences[:, :-1])
    chosen = beams.sequences[:, 6:, None]
    logprobs = out.logits[:, 5:].log_softmax(-1).gather(2, chosen).sum((1, 2))
    torch.testing.assert_close(logprobs / 5, beams.sequences_scores, atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize(
    ("rule", "message"),
    [("policy", "halting policy"), ("q_exit", "exit gate"), ("kl", "not its backbone")],
)
def test_rules_name_what_the_model_lacks(make_model: MakeModel, rule: Any, message: str) -> None:
    plain: Any = make_model()
    request = DepthRequest(rule=rule, depth=4, threshold=0.1)
    with pytest.raises(ValueError, match=message):
        (plain.model if rule == "kl" else plain)(TOKENS, depth_request=request)


def test_a_request_deeper_than_the_model_is_refused(make_model: MakeModel) -> None:
    with pytest.raises(ValueError, match="9 iterations are over max_iterations=8"):
        make_model()(TOKENS, depth_request=DepthRequest(depth=2, prompt_depth=9))
