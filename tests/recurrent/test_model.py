"""The model computes what its rule of attention says, in parallel, cached, padded and packed."""

import itertools
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.utils.flop_counter import FlopCounterMode
from transformers import DynamicCache, LlamaConfig, LlamaForCausalLM

from pipeline.recurrent.cache import RecurrentCache
from pipeline.recurrent.model import RecurrentForCausalLM

MakeModel = Callable[..., RecurrentForCausalLM]

ARCHITECTURES = [
    {"injection": injection, "block_style": style, "state_init": start}
    for injection, style, start in itertools.product(
        ("linear", "add", "none", "gated"),
        ("pre", "sandwich", "branch"),
        ("zero", "normal", "input"),
    )
    if injection != "none" or start == "input"
]
EXTRAS = [
    {"iteration_norm": True, "exit_norm": False},
    {"exit_norm": False, "final_norm": False},
    {"qkv_bias": True, "output_bias": True, "mlp_bias": True, "qk_norm": True},
    {"num_experts": 4},
    {"prelude_layers": 0, "core_layers": 1, "coda_layers": 0},
    {"prelude_layers": 2, "core_layers": 3, "coda_layers": 2, "embedding_scale": 3.0},
    {"tie_word_embeddings": False, "head_dim": 16, "num_key_value_heads": 1},
]
LENGTHS = (9, 6, 8)
PADDED = 9


def name(changes: dict[str, Any]) -> str:
    return "-".join(str(value) for value in changes.values())


def left_padded() -> tuple[Tensor, Tensor]:
    """Tokens [3, 9] and their mask, the shorter rows padded on the left."""
    generator = torch.Generator().manual_seed(1)
    tokens = torch.randint(1, 40, (3, PADDED), generator=generator)
    mask = torch.tensor([[0] * (PADDED - n) + [1] * n for n in LENGTHS])
    return tokens * mask, mask


def depths_of(kind: str) -> Tensor:
    """Depths [3, 9]; by token, the sixth runs deeper than any before and the eighth shallower."""
    if kind == "uniform":
        return torch.full((3, PADDED), 3)
    if kind == "sequence":
        return torch.tensor([1, 4, 2])[:, None].expand(3, PADDED)
    by_token = torch.randint(1, 4, (3, PADDED), generator=torch.Generator().manual_seed(2))
    by_token[:, 5], by_token[:, 7] = torch.tensor([5, 3, 6]), 1
    return by_token


def decoded(
    model: RecurrentForCausalLM, tokens: Tensor, mask: Tensor, depths: Tensor, *, chunks: list[int]
) -> Tensor:
    """Logits [B, T, V] of a call for every chunk of tokens, through one cache."""
    cache, logits, start = RecurrentCache(model.config), [], 0
    for end in itertools.accumulate(chunks):
        out = model(
            tokens[:, start:end],
            attention_mask=mask[:, :end],
            past_key_values=cache,
            depths=depths[:, start:end],
            use_cache=True,
        )
        logits.append(out.logits)
        start = end
    return torch.cat(logits, dim=1)


@torch.no_grad()
def check_decoding(model: RecurrentForCausalLM) -> None:
    tokens, mask = left_padded()
    real = mask.bool()
    for kind in ("uniform", "sequence", "token"):
        depths = depths_of(kind)
        whole = model(tokens, attention_mask=mask, depths=depths, use_cache=False).logits
        for chunks in ([4, 1, 1, 1, 1, 1], [3, 4, 2]):
            steps = decoded(model, tokens, mask, depths, chunks=chunks)
            torch.testing.assert_close(steps[real], whole[real], atol=2e-5, rtol=1e-5)
        for row, length in enumerate(LENGTHS):
            alone = model(tokens[row : row + 1, -length:], depths=depths[row : row + 1, -length:])
            torch.testing.assert_close(alone.logits[0], whole[row, -length:], atol=2e-5, rtol=1e-5)


@pytest.mark.parametrize("changes", ARCHITECTURES, ids=name)
def test_cached_decoding_equals_the_parallel_pass(
    make_model: MakeModel, changes: dict[str, Any]
) -> None:
    check_decoding(make_model(**changes))


@pytest.mark.parametrize("changes", EXTRAS, ids=name)
def test_every_option_decodes_as_it_computes(
    make_model: MakeModel, changes: dict[str, Any]
) -> None:
    check_decoding(make_model(**changes))


@torch.no_grad()
def test_depth_and_every_part_matter(make_model: MakeModel) -> None:
    """The other tests compare the model with itself: it must not be constant."""
    tokens, _ = left_padded()
    for changes in ARCHITECTURES:
        model = make_model(**changes)
        shallow, deep = (model(tokens, num_iterations=n).logits for n in (1, 2))
        assert (shallow - deep).abs().max() > 1e-2, changes


@torch.no_grad()
def test_right_padding_changes_nothing(make_model: MakeModel) -> None:
    model = make_model()
    tokens, mask = left_padded()
    tokens, mask = tokens.flip(1), mask.flip(1)
    depths = depths_of("token")
    whole = model(tokens, attention_mask=mask, depths=depths).logits
    for row, length in enumerate(LENGTHS):
        alone = model(tokens[row : row + 1, :length], depths=depths[row : row + 1, :length]).logits
        torch.testing.assert_close(alone[0], whole[row, :length], atol=2e-5, rtol=1e-5)


@torch.no_grad()
def test_packed_sequences_do_not_see_each_other(make_model: MakeModel) -> None:
    model = make_model(state_init="normal")
    tokens, _ = left_padded()
    parts = [tokens[:1, :4], tokens[:1, 4:9], tokens[1:2, 6:]]
    positions = torch.cat([torch.arange(part.shape[1]) for part in parts])[None]
    packed = model(torch.cat(parts, dim=1), position_ids=positions).logits
    apart = torch.cat([model(part).logits for part in parts], dim=1)
    torch.testing.assert_close(packed, apart, atol=2e-5, rtol=1e-5)
    warm = make_model(warm_start=True)
    with pytest.raises(ValueError, match="packed sequences"):
        warm(torch.cat(parts, dim=1), position_ids=positions)


@torch.no_grad()
def test_sequences_that_left_cost_nothing(make_model: MakeModel) -> None:
    model = make_model()
    tokens, _ = left_padded()
    depths = torch.tensor([1, 4, 2])
    with FlopCounterMode(display=False) as mixed:
        model.model(tokens, depths=depths, use_cache=False)
    apart = 0
    for row, depth in enumerate(depths.tolist()):
        with FlopCounterMode(display=False) as counter:
            model.model(tokens[row : row + 1], num_iterations=depth, use_cache=False)
        apart += counter.get_total_flops()
    assert mixed.get_total_flops() == apart


@torch.no_grad()
def test_states_of_every_iteration(make_model: MakeModel) -> None:
    model = make_model()
    tokens, _ = left_padded()
    depths = torch.tensor([1, 4, 2])
    out = model(tokens, depths=depths, output_hidden_states=True, use_cache=False)
    assert len(out.hidden_states) == 5
    assert torch.equal(out.hidden_states[1][0], out.hidden_states[4][0])
    assert torch.equal(out.hidden_states[2][2], out.hidden_states[4][2])
    assert not torch.equal(out.hidden_states[3][1], out.hidden_states[4][1])
    assert torch.equal(out.depths, depths[:, None].expand(3, PADDED))
    assert out.past_key_values is None
    assert out.last_hidden_state.shape == (3, PADDED, 32)
    kept = model(tokens, depths=depths, logits_to_keep=2)
    torch.testing.assert_close(kept.logits, out.logits[:, -2:], atol=1e-5, rtol=1e-5)


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


@torch.no_grad()
def test_shared_kv_of_enough_planes_is_unshared(make_model: MakeModel) -> None:
    tokens, mask = left_padded()
    depths = depths_of("token")
    plain, shared = make_model(), make_model(kv_planes=6)
    expected = decoded(plain, tokens, mask, depths, chunks=[4, 1, 1, 1, 1, 1])
    got = decoded(shared, tokens, mask, depths, chunks=[4, 1, 1, 1, 1, 1])
    assert torch.equal(got, expected)


@torch.no_grad()
def test_one_plane_of_kv_decodes(make_model: MakeModel) -> None:
    model = make_model(kv_planes=1)
    tokens, _ = left_padded()
    cache = RecurrentCache(model.config)
    model(tokens, past_key_values=cache, num_iterations=5)
    assert cache.planes == 1
    assert len(cache.layers) == model.config.num_hidden_layers
    out = model.generate(tokens, max_new_tokens=4, do_sample=False, num_iterations=5)
    assert out.shape == (3, PADDED + 4)


@torch.no_grad()
def test_shared_kv_does_not_depend_on_the_batch(make_model: MakeModel) -> None:
    """A token that left keeps what every plane held, whatever its neighbours go on doing."""
    model = make_model(kv_planes=2)
    tokens, _ = left_padded()
    tokens, ones, depths = tokens[:1].expand(2, -1), torch.ones(2, 9), depths_of("token")[:2]
    chunks = [1] * 9
    both = decoded(model, tokens, ones, depths, chunks=chunks)
    for row in range(2):
        one = slice(row, row + 1)
        alone = decoded(model, tokens[one], ones[one], depths[one], chunks=chunks)
        torch.testing.assert_close(both[one], alone, atol=2e-5, rtol=1e-5)


def test_shared_kv_is_refused_in_training(make_model: MakeModel) -> None:
    model = make_model(kv_planes=1).train()
    with pytest.raises(ValueError, match="kv_planes=1 .* train with kv_planes null"):
        model(left_padded()[0])


@torch.no_grad()
def test_warm_start_goes_on_from_the_last_state(make_model: MakeModel) -> None:
    model, cold = make_model(warm_start=True), make_model()
    tokens, _ = left_padded()
    ones = torch.ones_like(tokens)
    depths = depths_of("token")
    whole = model(tokens, depths=depths).logits
    steps = decoded(model, tokens, ones, depths, chunks=[4, 1, 1, 2, 1])
    torch.testing.assert_close(steps, whole, atol=2e-5, rtol=1e-5)
    without = cold(tokens, depths=depths).logits
    torch.testing.assert_close(whole[:, 0], without[:, 0], atol=2e-5, rtol=1e-5)
    assert (whole[:, 1:] - without[:, 1:]).abs().amax(dim=(0, 2)).min() > 1e-3


@torch.no_grad()
def test_warm_start_takes_nothing_from_padding(make_model: MakeModel) -> None:
    model = make_model(warm_start=True, state_init="normal")
    tokens, mask = left_padded()
    depths = depths_of("token")
    whole = model(tokens, attention_mask=mask, depths=depths).logits
    steps = decoded(model, tokens, mask, depths, chunks=[2, 1, 1, 1, 1, 1, 2])
    for row, length in enumerate(LENGTHS):
        alone = model(tokens[row : row + 1, -length:], depths=depths[row : row + 1, -length:])
        torch.testing.assert_close(whole[row, -length:], alone.logits[0], atol=2e-5, rtol=1e-5)
        torch.testing.assert_close(steps[row, -length:], alone.logits[0], atol=2e-5, rtol=1e-5)


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
    assert model(tokens).logits.shape == (3, PADDED, 44)
