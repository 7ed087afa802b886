"""The mixture of experts against a loop over tokens. Attention is tested with the model."""

from collections.abc import Callable

import torch

from pipeline.recurrent.blocks import SparseMLP
from pipeline.recurrent.config import RecurrentConfig
from pipeline.recurrent.model import RecurrentForCausalLM

MakeModel = Callable[..., RecurrentForCausalLM]


def test_experts_are_weighted_by_a_softmax_over_the_best() -> None:
    torch.manual_seed(0)
    config = RecurrentConfig(hidden_size=12, intermediate_size=20, num_attention_heads=2)
    mlp = SparseMLP(config, experts=5)
    hidden = torch.randn(2, 7, 12)
    out = mlp(hidden)
    for row in range(2):
        for place in range(7):
            token = hidden[row, place]
            scores = mlp.router(token).detach()
            best = sorted(range(5), key=lambda e: -float(scores[e]))[:2]
            weights = torch.softmax(scores[best], dim=0)
            expected = sum(w * mlp.experts[e](token) for w, e in zip(weights, best, strict=True))
            torch.testing.assert_close(out[row, place], expected, atol=1e-6, rtol=1e-5)


def test_experts_learn(make_model: MakeModel) -> None:
    model = make_model(num_experts=4).train()
    tokens = torch.randint(0, 40, (8, 12), generator=torch.Generator().manual_seed(3))
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-2)
    router = model.get_parameter("model.core.0.mlp.router.weight").detach().clone()
    losses = []
    for _ in range(12):
        loss = model(tokens, labels=tokens, num_iterations=2).loss
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()
        losses.append(loss.item())
    assert losses[-1] < 0.6 * losses[0]
    assert not torch.equal(router, model.get_parameter("model.core.0.mlp.router.weight"))
