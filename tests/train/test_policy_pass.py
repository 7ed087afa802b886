"""A pass of packed completions against one row at a time, for models of several families."""

import copy
import random
from typing import Any

import pytest
import torch
from torch import Tensor
from transformers import (
    AutoModelForCausalLM,
    Gemma2Config,
    Gemma3TextConfig,
    GPT2Config,
    LlamaConfig,
    MixtralConfig,
    PreTrainedModel,
    Qwen3Config,
)

from pipeline.recurrent.config import RecurrentConfig
from pipeline.recurrent.model import RecurrentForCausalLM
from pipeline.train.packed_rows import Completion, pack
from pipeline.train.policy_pass import PolicyPass

SIZES: dict[str, Any] = {
    "vocab_size": 60,
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "head_dim": 8,
    "initializer_range": 0.2,
}
FAMILIES = {
    "llama": LlamaConfig(**SIZES),
    "qwen3": Qwen3Config(**SIZES),
    "mixtral": MixtralConfig(**SIZES, num_local_experts=4),
    "gemma 3, a window of 4": Gemma3TextConfig(
        **SIZES, sliding_window=4, layer_types=["sliding_attention", "full_attention"]
    ),
    "gemma 2, capped attention": Gemma2Config(**SIZES, attn_logit_softcapping=2.0),
    "gpt 2": GPT2Config(vocab_size=60, n_embd=32, n_layer=2, n_head=4, initializer_range=0.2),
}
EAGER = {"gemma 2, capped attention"}  # torch's own attention would leave out the cap


def completions(*, seed: int = 0, deepest: int | None = None) -> list[Completion]:
    """Three prompts, one of them a single token, with samples from 1 to 20 tokens."""
    rng = random.Random(seed)
    rows = []
    for prompt in ([3, 4, 5, 6, 7, 8, 9], [11], [12, 13]):
        before = [2] * (len(prompt) - 1)
        for length in (1, 2, 5, 9, 20):
            tokens = tuple(rng.randrange(3, 60) for _ in range(length))
            ran = [rng.randint(1, deepest or 1) for _ in range(length)]
            rows.append(
                Completion(
                    prompt=tuple(prompt),
                    tokens=tokens,
                    logprobs=(0.0,) * length,
                    advantage=1.0,
                    depths=None if deepest is None else (*before, *ran),
                )
            )
    rng.shuffle(rows)
    return rows


def alone(model: Any, row: Completion) -> Tensor:
    """[_T] log-probabilities from a pass over this row only."""
    at = {} if row.depths is None else {"depths": torch.tensor([row.depths])}
    ids = torch.tensor([[*row.prompt, *row.tokens[:-1]]])
    logits = model(input_ids=ids, use_cache=False, **at).logits[0, len(row.prompt) - 1 :]
    return logits.log_softmax(-1).gather(1, torch.tensor(row.tokens)[:, None])[:, 0]


def check(model: PreTrainedModel, rows: list[Completion]) -> PolicyPass:
    """Values, entropies and gradients of one packed pass are those of rows on their own."""
    weight = torch.linspace(-1, 1, sum(len(row.tokens) for row in rows))
    expected = torch.cat([alone(model, row) for row in rows])
    (expected * weight).sum().backward()
    gradients = {n: p.grad.clone() for n, p in model.named_parameters() if p.grad is not None}
    model.zero_grad()
    policy = PolicyPass(model, temperature=1.0)
    logprobs, entropy = policy(model, pack(rows))
    torch.testing.assert_close(logprobs, expected, rtol=1e-4, atol=2e-5)
    assert not entropy.requires_grad
    (logprobs * weight).sum().backward()
    for name, parameter in model.named_parameters():
        if name in gradients:
            torch.testing.assert_close(parameter.grad, gradients[name], rtol=1e-3, atol=2e-4)
    return policy


@pytest.mark.parametrize("family", FAMILIES)
def test_a_packed_pass_equals_rows_on_their_own(family: str) -> None:
    torch.manual_seed(1)
    config = copy.deepcopy(FAMILIES[family])
    model = AutoModelForCausalLM.from_config(config, dtype=torch.float32).eval()
    if family in EAGER:
        model.set_attn_implementation("eager")
    assert check(model, completions()).packed


@pytest.mark.parametrize("deepest", [None, 4])
@pytest.mark.parametrize("last", [None, 2])
@pytest.mark.parametrize("tied", [True, False])
def test_a_recurrent_model_too_at_any_depths(
    deepest: int | None, last: int | None, tied: bool
) -> None:
    torch.manual_seed(2)
    sizes = {k: v for k, v in SIZES.items() if k != "num_hidden_layers"}
    depth = {"num_iterations": 3, "max_iterations": 4, "backprop_iterations": last}
    config = RecurrentConfig(**sizes, **depth, tie_iterations=tied)
    policy = check(RecurrentForCausalLM(config).eval(), completions(deepest=deepest))
    assert policy.packed


def test_a_model_that_must_go_token_by_token_is_padded() -> None:
    torch.manual_seed(3)
    sizes = {k: v for k, v in SIZES.items() if k != "num_hidden_layers"}
    config = RecurrentConfig(**sizes, num_iterations=2, warm_start=True)
    model, rows = RecurrentForCausalLM(config).eval(), completions()
    policy = PolicyPass(model, temperature=1.0)
    logprobs, _ = policy(model, pack(rows))
    assert policy.packed is False
    expected = torch.cat([alone(model, row) for row in rows])
    torch.testing.assert_close(logprobs, expected, rtol=1e-4, atol=2e-5)


def test_the_entropy_is_that_of_the_sampled_distribution() -> None:
    torch.manual_seed(4)
    config = copy.deepcopy(FAMILIES["llama"])
    model = AutoModelForCausalLM.from_config(config, dtype=torch.float32).eval()
    (row, *_) = completions()
    logprobs, entropy = PolicyPass(model, temperature=0.7)(model, pack([row]))
    with torch.no_grad():
        ids = torch.tensor([[*row.prompt, *row.tokens[:-1]]])
        model.set_attn_implementation("eager")
        logits = model(input_ids=ids).logits[0, len(row.prompt) - 1 :] / 0.7
    every = logits.log_softmax(-1)
    torch.testing.assert_close(entropy, -(every.exp() * every).sum(-1), rtol=1e-4, atol=1e-5)
    chosen = every.gather(1, torch.tensor(row.tokens)[:, None])[:, 0]
    torch.testing.assert_close(logprobs, chosen, rtol=1e-4, atol=1e-5)
