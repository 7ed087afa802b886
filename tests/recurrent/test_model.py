"""Calls of the model: what is refused, dense twins, types, and `generate`."""

from typing import Any

import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode
from transformers import DynamicCache, LlamaConfig, LlamaForCausalLM

from pipeline.recurrent.model import RecurrentForCausalLM
from pipeline.recurrent.request import DepthRequest
from tests.recurrent.decoding import (
    MASK,
    PROMPTS,
    REQUESTS,
    SEEDS,
    STEPS,
    TOKENS,
    named,
    rolled,
)
from tests.recurrent.sequences import (
    WIDTH,
    MakeModel,
    depths_of,
    left_padded,
)


def llama_twin(make_model: MakeModel) -> tuple[RecurrentForCausalLM, LlamaForCausalLM]:
    """A gated recurrent model and the four-layer Llama with its weights."""
    model = make_model(injection="gated", block_style="pre", exit_norm=False)
    shared = ("vocab_size", "hidden_size", "intermediate_size", "num_attention_heads")
    shared += ("num_key_value_heads", "head_dim", "rms_norm_eps", "max_position_embeddings")
    sizes = {field: model.config.to_dict()[field] for field in shared}
    llama = LlamaForCausalLM(LlamaConfig(**sizes, num_hidden_layers=4, tie_word_embeddings=True))
    places = {"prelude.0": "layers.0", "core.0": "layers.1", "core.1": "layers.2"}
    places["coda.0"] = "layers.3"
    weights = {}
    for key, value in model.state_dict().items():
        for ours, theirs in places.items():
            key = key.replace(ours, theirs)
        if "injection" not in key:
            weights[key] = value
    llama.load_state_dict(weights)
    return model, llama.eval()


@torch.no_grad()
def test_one_gated_iteration_is_a_llama(make_model: MakeModel) -> None:
    model, llama = llama_twin(make_model)
    tokens, mask = left_padded()
    real = mask.bool()
    ours = model(tokens, attention_mask=mask, num_iterations=1).logits
    theirs = llama(
        tokens, attention_mask=mask, position_ids=(mask.cumsum(1) - 1).clamp_min(0)
    ).logits
    torch.testing.assert_close(ours[real], theirs[real], atol=1e-5, rtol=0)
    with FlopCounterMode(display=False) as our_cost:
        model(tokens, num_iterations=1)
    with FlopCounterMode(display=False) as their_cost:
        llama(tokens)
    # ours makes the rotary angles for every sequence, theirs once
    assert our_cost.get_total_flops() == pytest.approx(their_cost.get_total_flops(), rel=1e-3)


def test_shared_kv_is_refused_in_training(make_model: MakeModel) -> None:
    model = make_model(kv_planes=1).train()
    with pytest.raises(ValueError, match="kv_planes=1 .* train with kv_planes null"):
        model(left_padded()[0])


@torch.no_grad()
def test_bfloat16_stays_near(make_model: MakeModel) -> None:
    for changes in ({"state_init": "normal"}, {"injection": "gated", "num_experts": 3}):
        model = make_model(**changes)
        tokens, mask = left_padded()
        full = model(tokens, attention_mask=mask, depths=depths_of("token")).logits
        half = model.to(torch.bfloat16)(tokens, attention_mask=mask, depths=depths_of("token"))
        assert half.logits.dtype == torch.bfloat16
        assert (half.logits - full)[mask.bool()].abs().mean() < 0.05 * full.abs().mean()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"num_iterations": 0}, "num_iterations=0 must be at least 1"),
        ({"num_iterations": 9}, "9 iterations are over max_iterations=8"),
        ({"depths": torch.tensor([1, 2, 9])}, "9 iterations are over max_iterations=8"),
        ({"depths": torch.tensor([1, 0, 2])}, "depths hold 0"),
        ({"depths": torch.ones(3, 4)}, r"depths of shape \(3, 4\) fit no batch of 3 sequences"),
        ({"depths": torch.ones(3), "num_iterations": 2}, "at most one of"),
        ({"past_key_values": DynamicCache()}, "DynamicCache"),
        ({"attention_mask": torch.ones(3, 5)}, r"shape \(3, 5\).* here \[3, 9\]"),
        ({"inputs_embeds": torch.ones(3, 9, 32)}, "exactly one of input_ids and inputs_embeds"),
    ],
)
def test_impossible_calls_say_why(
    make_model: MakeModel, arguments: dict[str, Any], message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        make_model()(left_padded()[0], **arguments)


@torch.no_grad()
def test_embeddings_can_come_from_outside(make_model: MakeModel) -> None:
    model = make_model(embedding_scale=2.0)
    tokens, _ = left_padded()
    embedded = model.get_input_embeddings()(tokens)
    assert torch.equal(model(inputs_embeds=embedded).logits, model(tokens).logits)
    model.resize_token_embeddings(44)
    assert model(tokens).logits.shape == (3, WIDTH, 44)


@pytest.mark.parametrize("request_", REQUESTS, ids=named)
@torch.no_grad()
def test_generate_follows_the_request(model: RecurrentForCausalLM, request_: DepthRequest) -> None:
    seen = rolled(model, request_)
    options: dict[str, Any] = {"depth_request": request_, "depth_seed": SEEDS}
    tokens = model.generate(
        PROMPTS, attention_mask=MASK, max_new_tokens=STEPS, do_sample=False, **options
    )
    assert torch.equal(tokens, seen["tokens"])


@torch.no_grad()
def test_generate_samples_several_and_searches_beams(model: RecurrentForCausalLM) -> None:
    several = model.generate(
        PROMPTS, attention_mask=MASK, max_new_tokens=3, do_sample=True, num_return_sequences=2
    )
    assert several.shape == (8, 9)
    request = DepthRequest(rule="schedule", depth=2, schedule=(3, 1))
    beams = model.generate(
        PROMPTS,
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


def test_a_request_deeper_than_the_model_is_refused(make_model: MakeModel) -> None:
    with pytest.raises(ValueError, match="9 iterations are over max_iterations=8"):
        make_model()(TOKENS, depth_request=DepthRequest(depth=2, prompt_depth=9))
