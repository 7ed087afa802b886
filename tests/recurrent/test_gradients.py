"""Gradients of the parallel pass against computations written out here, token by token."""

from collections.abc import Callable
from contextlib import nullcontext
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from pipeline.recurrent.blocks import attend
from pipeline.recurrent.model import RecurrentForCausalLM

MakeModel = Callable[..., RecurrentForCausalLM]
Gradients = dict[str, Tensor | None]

ARCHITECTURES = [
    {"injection": "linear"},
    {"injection": "add", "block_style": "branch", "iteration_norm": True, "exit_norm": False},
    {"injection": "none", "block_style": "pre"},
    {"injection": "gated", "state_init": "normal", "qk_norm": True},
    {"injection": "linear", "num_experts": 3},
    {"injection": "none", "block_style": "pre", "tie_iterations": False, "core_layers": 1},
    {"injection": "linear", "block_style": "branch", "tie_iterations": False, "core_layers": 2},
]
TOKENS = torch.randint(0, 40, (3, 7), generator=torch.Generator().manual_seed(1))
BY_TOKEN = torch.tensor([[1, 4, 2, 5, 3, 1, 2], [3, 1, 1, 2, 4, 6, 1], [2, 2, 5, 1, 1, 3, 2]])


def gradients(model: RecurrentForCausalLM, loss: Tensor) -> Gradients:
    names, parameters = zip(*model.named_parameters(), strict=True)
    results = torch.autograd.grad(loss, parameters, allow_unused=True)
    return dict(zip(names, results, strict=True))


def assert_same(ours: Gradients, theirs: Gradients) -> None:
    """Absent and zero are the same gradient."""
    for name in ours:
        left, right = ours[name], theirs[name]
        if left is None or right is None:
            for value in (left, right):
                assert value is None or not value.any(), name
        else:
            torch.testing.assert_close(left, right, atol=1e-5, rtol=1e-4, msg=lambda m: name + m)  # noqa: B023
    assert sum(value is not None and bool(value.any()) for value in ours.values()) > 10


def layer(block: Any, hidden: Tensor, rope: Any, seen: list[Any], past: Any) -> Tensor:
    """One token [1, 1, h] through a block, over the keys and values of `past` and its own."""
    q, k, v = block.project(hidden, rope)
    seen.append((k, v))
    keys = torch.cat([pair[0] for pair in [*past, (k, v)]], dim=2)
    values = torch.cat([pair[1] for pair in [*past, (k, v)]], dim=2)
    return block.finish(hidden, attend(q, keys, values, None))


def by_hand(
    model: RecurrentForCausalLM, tokens: Tensor, depths: Tensor, *, last: int | None
) -> Tensor:
    """The loss of one sequence [T], every token on its own: iterations without the `last` build
    no graph, and iteration i sees a token before as it was at iteration min(i, its depth), or where
    iterations are not tied, as i's blocks project the state that it left with."""
    backbone: Any = model.model
    dense: dict[Any, list[Any]] = {block: [] for block in (*backbone.prelude, *backbone.coda)}
    core: list[list[list[Any]]] = []  # by token, iteration and layer
    logits = []
    for place, token in enumerate(tokens):
        position = torch.tensor([[place]])
        hidden = backbone.embed_tokens(token.view(1, 1)) * model.config.embedding_scale
        rope = backbone.rotary_emb(hidden, position)
        for block in backbone.prelude:
            hidden = layer(block, hidden, rope, dense[block], list(dense[block]))
        state, depth, mine = backbone.first_state(hidden, position), int(depths[place]), []
        core.append(mine)
        for iteration in range(1, depth + 1):
            outside = last is not None and iteration <= depth - last
            seen: list[Any] = []
            with torch.no_grad() if outside else nullcontext():
                inner = backbone.injection.read(state, hidden, first=iteration == 1)
                blocks = backbone.core[model.config.blocks_of(iteration)]
                for number, block in enumerate(blocks):
                    past = [one[min(iteration, len(one)) - 1][number] for one in core[:-1]]
                    inner = layer(block, inner, rope, seen, past)
                state = backbone.injection.write(state, inner, first=iteration == 1)
                if model.config.iteration_norm:
                    state = backbone.core_norm(state)
            mine.append(seen)
        for iteration in range(depth + 1, model.config.max_iterations + 1):
            if not model.config.tie_iterations:
                inner = backbone.injection.read(state, hidden, first=False)
                blocks = backbone.core[model.config.blocks_of(iteration)]
                mine.append([block.project(inner, rope)[1:] for block in blocks])
        out = backbone.core_norm(state) if model.config.exit_norm else state
        for block in backbone.coda:
            out = layer(block, out, rope, dense[block], list(dense[block]))
        logits.append(model.lm_head(backbone.norm(out))[0, 0])
    return F.cross_entropy(torch.stack(logits[:-1]), tokens[1:])


@pytest.mark.parametrize("last", [None, 1, 2, 6])
@pytest.mark.parametrize("changes", ARCHITECTURES, ids=lambda c: "-".join(map(str, c.values())))
def test_loss_and_gradients_are_those_written_out(
    make_model: MakeModel, changes: dict[str, Any], last: int | None
) -> None:
    model = make_model(**changes, backprop_iterations=last).train()
    expected = torch.stack(
        [by_hand(model, t, d, last=last) for t, d in zip(TOKENS, BY_TOKEN, strict=True)]
    ).mean()
    loss = model(TOKENS, labels=TOKENS, depths=BY_TOKEN).loss
    torch.testing.assert_close(loss, expected, atol=1e-5, rtol=1e-5)
    assert_same(gradients(model, loss), gradients(model, expected))


def unrolled(model: RecurrentForCausalLM, *, total: int, last: int) -> Tensor:
    """The loss at one depth for all, the first iterations under no_grad."""
    backbone: Any = model.model
    hidden = backbone.embed_tokens(TOKENS)
    position = torch.arange(TOKENS.shape[1])[None]
    rope = backbone.rotary_emb(hidden, position)

    def through(blocks: Any, hidden: Tensor) -> Tensor:
        for block in blocks:
            hidden = block(hidden, rope, None)[0]
        return hidden

    embedded = through(backbone.prelude, hidden)
    state = torch.zeros_like(embedded)
    for iteration in range(total):
        with torch.no_grad() if iteration < total - last else nullcontext():
            state = through(
                backbone.core, backbone.injection.adapter(torch.cat((state, embedded), dim=-1))
            )
    out = backbone.norm(through(backbone.coda, backbone.core_norm(state)))
    return F.cross_entropy(model.lm_head(out)[:, :-1].flatten(0, 1), TOKENS[:, 1:].flatten())


@pytest.mark.parametrize("last", [1, 3, 5, 8])
def test_one_depth_for_all_is_an_unrolled_loop(make_model: MakeModel, last: int) -> None:
    model = make_model(backprop_iterations=last).train()
    expected = unrolled(model, total=5, last=last)
    loss = model(TOKENS, labels=TOKENS, num_iterations=5).loss
    torch.testing.assert_close(loss, expected, atol=1e-6, rtol=1e-6)
    assert_same(gradients(model, loss), gradients(model, expected))
    if last >= 5:
        plain = make_model().train()
        assert_same(
            gradients(plain, plain(TOKENS, labels=TOKENS, num_iterations=5).loss),
            gradients(model, model(TOKENS, labels=TOKENS, num_iterations=5).loss),
        )


def test_truncation_changes_gradients_alone(make_model: MakeModel) -> None:
    short, whole = make_model(backprop_iterations=1).train(), make_model().train()
    losses = [m(TOKENS, labels=TOKENS, depths=BY_TOKEN).loss for m in (short, whole)]
    assert torch.equal(*losses)
    ours, theirs = gradients(short, losses[0]), gradients(whole, losses[1])
    name = "model.core.0.mlp.up_proj.weight"
    left, right = ours[name], theirs[name]
    assert left is not None
    assert right is not None
    assert (left - right).abs().max() > 1e-3


@pytest.mark.parametrize("side", ["left", "right"])
@pytest.mark.parametrize("kind", ["token", "sequence"])
def test_padding_changes_neither_loss_nor_gradients(
    make_model: MakeModel, side: str, kind: str
) -> None:
    model = make_model(backprop_iterations=2).train()
    lengths, depths = (7, 4, 6), BY_TOKEN if kind == "token" else torch.tensor([2, 5, 3])
    parts = [slice(7 - n, 7) if side == "left" else slice(0, n) for n in lengths]
    mask = torch.zeros(3, 7, dtype=torch.long)
    for row, part in enumerate(parts):
        mask[row, part] = 1
    # the first real token has no prediction: alone, there is nothing before it
    first = mask.cumsum(1) == 1
    labels = TOKENS.masked_fill((mask == 0) | first, -100)
    loss = model(TOKENS, attention_mask=mask, labels=labels, depths=depths).loss
    apart, predicted = torch.zeros(()), 0
    for row, part in enumerate(parts):
        tokens = TOKENS[row : row + 1, part]
        own = depths[row : row + 1, part] if kind == "token" else depths[row : row + 1]
        alone = model(tokens, labels=tokens, depths=own).loss
        apart = apart + alone * (lengths[row] - 1)
        predicted += lengths[row] - 1
    torch.testing.assert_close(loss, apart / predicted, atol=1e-6, rtol=1e-5)
    assert_same(gradients(model, loss), gradients(model, apart / predicted))


@pytest.mark.parametrize("last", [None, 2])
@pytest.mark.parametrize("depths", [BY_TOKEN, torch.tensor([1, 4, 2])])
def test_checkpointing_changes_no_gradient(
    make_model: MakeModel, depths: Tensor, last: int | None
) -> None:
    model = make_model(backprop_iterations=last).train()
    plain = gradients(model, model(TOKENS, labels=TOKENS, depths=depths).loss)
    model.gradient_checkpointing_enable()
    saved: list[int] = []
    with torch.autograd.graph.saved_tensors_hooks(
        lambda t: (saved.append(t.numel()), t)[1], lambda t: t
    ):
        loss = model(TOKENS, labels=TOKENS, depths=depths).loss
    few = sum(saved)
    checked = gradients(model, loss)
    assert_same(plain, checked)
    model.gradient_checkpointing_disable()
    saved.clear()
    with torch.autograd.graph.saved_tensors_hooks(
        lambda t: (saved.append(t.numel()), t)[1], lambda t: t
    ):
        model(TOKENS, labels=TOKENS, depths=depths)
    assert few < sum(saved) / 2


def test_reentrant_checkpointing_is_refused(make_model: MakeModel) -> None:
    with pytest.raises(ValueError, match="use_reentrant=True would lose gradients"):
        make_model().gradient_checkpointing_enable({"use_reentrant": True})
