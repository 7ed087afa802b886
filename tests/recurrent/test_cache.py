"""The cache: planes that appear, share and follow their sequences."""

from collections.abc import Callable

import pytest
import torch

from pipeline.recurrent.cache import RecurrentCache
from pipeline.recurrent.config import RecurrentConfig
from pipeline.recurrent.model import RecurrentForCausalLM
from pipeline.recurrent.request import DepthRequest

MakeModel = Callable[..., RecurrentForCausalLM]
TOKENS = torch.arange(10).view(2, 5)


def test_iterations_share_planes_in_turn() -> None:
    plain, shared = (RecurrentCache(RecurrentConfig(kv_planes=planes)) for planes in (None, 3))
    assert [plain.plane(i) for i in range(1, 6)] == [0, 1, 2, 3, 4]
    assert [shared.plane(i) for i in range(1, 6)] == [0, 1, 2, 0, 1]
    assert plain.dense(0, length=0) is None
    assert plain.core(0, 4, length=0) is None


@torch.no_grad()
def test_planes_appear_as_iterations_run(make_model: MakeModel) -> None:
    model = make_model()
    cache = RecurrentCache(model.config)
    model(TOKENS, past_key_values=cache, num_iterations=2)
    assert (cache.planes, cache.get_seq_length()) == (2, 5)
    model(TOKENS[:, :1], past_key_values=cache, num_iterations=4)
    assert (cache.planes, cache.get_seq_length()) == (4, 6)
    deep, last = cache.core(1, 4, length=5), cache.core(1, 2, length=5)
    assert deep is not None
    assert last is not None
    assert all(torch.equal(a, b) for a, b in zip(deep, last, strict=True))
    newest, before = (cache.core(1, i, length=6) for i in (4, 3))
    assert newest is not None
    assert before is not None
    assert not torch.equal(newest[0][:, :, 5], before[0][:, :, 5])
    assert all(layer.get_seq_length() == 6 for layer in cache.layers)


@torch.no_grad()
def test_sequences_are_reordered_repeated_and_selected(make_model: MakeModel) -> None:
    model = make_model(warm_start=True)
    swap = torch.tensor([1, 0])
    changes: list[tuple[Callable[[RecurrentCache], None], torch.Tensor]] = [
        (lambda cache: cache.reorder_cache(swap), swap),
        (lambda cache: cache.batch_repeat_interleave(2), torch.tensor([0, 0, 1, 1])),
        (lambda cache: cache.batch_select_indices(torch.tensor([1])), torch.tensor([1])),
    ]
    for change, rows in changes:
        cache, other = RecurrentCache(model.config), RecurrentCache(model.config)
        model(TOKENS, past_key_values=cache)
        model(TOKENS[rows], past_key_values=other)
        change(cache)
        following = torch.full((len(rows), 1), 7)
        got = model(following, past_key_values=cache).logits
        expected = model(following, past_key_values=other).logits
        torch.testing.assert_close(got, expected, atol=1e-5, rtol=1e-5)


@torch.no_grad()
def test_newest_tokens_can_be_forgotten(make_model: MakeModel) -> None:
    model = make_model()
    cache, other = RecurrentCache(model.config), RecurrentCache(model.config)
    model(TOKENS, past_key_values=cache)
    model(TOKENS[:, :3], past_key_values=other)
    cache.crop(-2)
    ours, theirs = (model(TOKENS[:, 3:4], past_key_values=c).logits for c in (cache, other))
    torch.testing.assert_close(ours, theirs, atol=1e-5, rtol=1e-5)
    cache.reset()
    assert (len(cache.layers), cache.get_seq_length(), cache.planes <= 0) == (0, 0, True)


@torch.no_grad()
def test_forgetting_is_refused_where_it_cannot_be_undone(make_model: MakeModel) -> None:
    warm, plain = make_model(warm_start=True), make_model()
    cache = RecurrentCache(warm.config)
    warm(TOKENS, past_key_values=cache)
    decided = RecurrentCache(plain.config)
    plain(TOKENS, past_key_values=decided, depth_request=DepthRequest(depth=2))
    for held in (cache, decided):
        with pytest.raises(ValueError, match="cannot forget tokens"):
            held.crop(-1)
