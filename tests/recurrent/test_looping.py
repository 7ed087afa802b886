"""The loop computes what the rule of attention says, in parallel and through a cache."""

import itertools
from typing import Any

import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

from pipeline.recurrent.cache import RecurrentCache
from pipeline.recurrent.model import RecurrentForCausalLM
from pipeline.recurrent.request import DepthRequest
from tests.recurrent.sequences import (
    LENGTHS,
    WIDTH,
    MakeModel,
    decoded,
    depths_of,
    left_padded,
)

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
    {"tie_iterations": False, "injection": "none", "core_layers": 1, "max_iterations": 6},
    {"tie_iterations": False, "injection": "linear", "num_experts": 2},
    {"tie_iterations": False, "injection": "gated", "qk_norm": True, "qkv_bias": True},
    {"prelude_layers": 2, "core_layers": 3, "coda_layers": 2, "embedding_scale": 3.0},
    {"tie_word_embeddings": False, "head_dim": 16, "num_key_value_heads": 1},
]
UNTIED = [
    {"tie_iterations": False, "injection": "none", "block_style": style, "core_layers": layers}
    for style, layers in itertools.product(("pre", "sandwich", "branch"), (1, 2))
]


def name(changes: dict[str, Any]) -> str:
    return "-".join(str(value) for value in changes.values())


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


@pytest.mark.parametrize("changes", [*ARCHITECTURES, *UNTIED], ids=name)
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
def test_layers_that_a_token_left_out_see_the_state_it_left_with(make_model: MakeModel) -> None:
    """Two tokens, the first leaving after one of three iterations: the second's last iteration
    attends to keys and values that its own layers project from the state of the first."""
    model: Any = make_model(**UNTIED[1], num_iterations=3, max_iterations=3)
    cache = RecurrentCache(model.config)
    tokens, depths = torch.tensor([[3, 7]]), torch.tensor([[1, 3]])
    out = model(tokens, depths=depths, past_key_values=cache, output_hidden_states=True)
    left, rope = out.hidden_states[1][:, :1], model.model.rotary_emb(tokens, torch.tensor([[0]]))
    for iteration in (2, 3):
        for layer, block in enumerate(model.model.core[model.config.blocks_of(iteration)]):
            seen = cache.core(layer, iteration, length=1)
            expected = block.project(left, rope)[1:]
            assert seen is not None
            for ours, theirs in zip(seen, expected, strict=True):
                torch.testing.assert_close(ours, theirs, atol=1e-6, rtol=1e-5)


@torch.no_grad()
@pytest.mark.parametrize("changes", UNTIED, ids=name)
def test_generation_chooses_depths_that_replay(
    make_model: MakeModel, changes: dict[str, Any]
) -> None:
    """Greedy tokens of `generate`, at listed and ruled depths, are those of the parallel pass."""
    model: Any = make_model(**changes, num_iterations=4, max_iterations=5)
    tokens = left_padded()[0][:1]
    requests = [
        DepthRequest(rule="schedule", depth=4, prompt_depth=2, schedule=(1, 5, 2, 4)),
        DepthRequest(rule="latent", depth=5, prompt_depth=3, threshold=1.0),
    ]
    for request in requests:
        depths: list[int] = []
        hook = model.model.register_forward_hook(
            lambda _m, _i, out, depths=depths: depths.extend(out.depths[0].tolist())
        )
        out = model.generate(
            tokens,
            max_new_tokens=8,
            do_sample=False,
            depth_request=request,
            attention_mask=torch.ones_like(tokens),
        )
        hook.remove()
        assert len(set(depths)) > 1
        logits = model(out[:, :-1], depths=torch.tensor([depths]), use_cache=False).logits
        assert torch.equal(logits[0, WIDTH - 1 :].argmax(-1), out[0, WIDTH:])


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
    assert torch.equal(out.depths, depths[:, None].expand(3, WIDTH))
    assert out.past_key_values is None
    assert out.last_hidden_state.shape == (3, WIDTH, 32)
    last = model(tokens, depths=depths, logits_to_keep=2)
    torch.testing.assert_close(last.logits, out.logits[:, -2:], atol=1e-5, rtol=1e-5)


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
    assert out.shape == (3, WIDTH + 4)


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
