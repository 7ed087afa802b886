"""What passes cost, against PyTorch's own counter on real passes, forward and backward."""

from collections.abc import Callable, Iterator
from typing import Any

import pytest
import torch
from peft import LoraConfig, get_peft_model
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode
from transformers import (
    AutoModelForCausalLM,
    AutoModelForSequenceClassification,
    GPT2Config,
    LlamaConfig,
    Qwen3Config,
    Qwen3MoeConfig,
)

from pipeline.recurrent.config import RecurrentConfig
from pipeline.recurrent.model import RecurrentForCausalLM
from pipeline.train.flop_meter import FlopMeter, passed, token_cost
from pipeline.train.packed_rows import Completion, pack
from pipeline.train.policy_pass import PolicyPass

SIZES: dict[str, Any] = {
    "vocab_size": 320,
    "hidden_size": 64,
    "intermediate_size": 160,
    "num_hidden_layers": 3,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "head_dim": 16,
}
RECURRENT: dict[str, Any] = {
    "vocab_size": 320,
    "hidden_size": 64,
    "intermediate_size": 160,
    "prelude_layers": 1,
    "core_layers": 2,
    "coda_layers": 1,
    "num_iterations": 3,
    "max_iterations": 4,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "head_dim": 16,
}
IDS = torch.arange(8)[None].repeat(2, 1)  # short: the counter's attention is not causal


@pytest.fixture(autouse=True)
def _counted_attention() -> Iterator[None]:
    """The counter does not know the CPU's fused attention."""
    with sdpa_kernel(SDPBackend.MATH):
        yield


def both(model: Any, run: Callable[[], torch.Tensor]) -> tuple[float, float]:
    """FLOPs of a pass by the meter and by the counter."""
    meter = FlopMeter()
    meter.watch(model)
    model.train()
    with FlopCounterMode(display=False) as counter:
        run().float().pow(2).sum().backward()
    return meter.take()[1], float(counter.get_total_flops())


@pytest.mark.parametrize(
    "config",
    [
        LlamaConfig(**SIZES, tie_word_embeddings=True),
        Qwen3Config(**SIZES),
        GPT2Config(vocab_size=320, n_embd=64, n_layer=3, n_head=4),
        RecurrentConfig(**RECURRENT),
        RecurrentConfig(**RECURRENT, num_experts=4),
        RecurrentConfig(**RECURRENT, tie_iterations=False),
    ],
    ids=["llama, tied", "qwen3", "gpt 2", "recurrent", "recurrent, experts", "recurrent, untied"],
)
def test_a_training_pass_costs_what_is_counted(config: Any) -> None:
    model = (
        RecurrentForCausalLM(config)
        if isinstance(config, RecurrentConfig)
        else AutoModelForCausalLM.from_config(config)
    )
    meter, counter = both(model, lambda: model(input_ids=IDS, use_cache=False).logits)
    assert meter == pytest.approx(counter, rel=0.04)


def test_experts_count_by_the_share_that_a_token_passes() -> None:
    sizes = {**SIZES, "num_experts": 8, "num_experts_per_tok": 2, "moe_intermediate_size": 32}
    cost = token_cost(AutoModelForCausalLM.from_config(Qwen3MoeConfig(**sizes)))
    attention = 2 * 64 * (64 + 32)
    layer = attention + 64 * 8 + 2 * 3 * 64 * 32  # projections, router, two experts
    assert cost.token == 2 * 3 * layer


def test_a_reward_model_has_no_head_of_words() -> None:
    model = AutoModelForSequenceClassification.from_config(
        LlamaConfig(**SIZES, num_labels=1, pad_token_id=0)
    )
    meter, counter = both(model, lambda: model(input_ids=IDS, use_cache=False).logits)
    assert meter == pytest.approx(counter, rel=0.04)


def test_frozen_weights_have_no_gradient_of_their_own() -> None:
    base = AutoModelForCausalLM.from_config(LlamaConfig(**SIZES))
    model = get_peft_model(base, LoraConfig(r=1, target_modules="all-linear"))
    meter = FlopMeter()
    meter.watch(base, adapted=True)
    model.train()
    with FlopCounterMode(display=False) as counter:
        model(input_ids=IDS, use_cache=False).logits.pow(2).sum().backward()
    assert meter.take()[1] == pytest.approx(counter.get_total_flops(), rel=0.1)


def test_padding_is_not_trained_on() -> None:
    mask = torch.tensor([[1] * 8, [0] * 3 + [1] * 5])
    forward, _ = passed(LlamaConfig(**SIZES), IDS, {"attention_mask": mask})
    assert (forward.tokens, forward.pairs, forward.read) == (13, 36 + 15, 13)


def test_a_shared_prompt_counts_once_and_only_what_is_read_has_a_head() -> None:
    rows = [
        Completion(prompt=(3, 4, 5), tokens=tokens, logprobs=(0.0,) * len(tokens), advantage=1.0)
        for tokens in ((6, 7), (8, 9, 3))
    ]
    model = AutoModelForCausalLM.from_config(LlamaConfig(**SIZES)).train()
    policy = PolicyPass(model, temperature=1.0)
    packed = pack(rows)
    with torch.no_grad():
        policy(model, packed)  # finds out that the model takes packed rows
    meter = FlopMeter()
    meter.watch(model)
    policy(model, packed)
    tokens, flops = meter.take()
    cost = token_cost(model)
    pairs = (1 + 2) + (3 + 4) + (3 + 4 + 5)
    assert tokens == 2 + 2 + 3
    assert flops == 3 * (cost.token * 7 + cost.pair * pairs + cost.read * 5)
    assert meter.take() == (0, 0.0)


def test_a_pass_without_gradients_costs_a_third_and_trains_nothing() -> None:
    model = AutoModelForCausalLM.from_config(LlamaConfig(**SIZES)).train()
    meter = FlopMeter()
    meter.watch(model)
    model(input_ids=IDS)
    tokens, trained = meter.take()
    with torch.no_grad():
        model(input_ids=IDS)
    assert tokens == IDS.numel()
    assert meter.take() == (0, trained / 3)


@pytest.mark.parametrize("last", [None, 2])
def test_iterations_count_by_token_and_those_without_gradient_once(last: int | None) -> None:
    config = RecurrentConfig(**RECURRENT, backprop_iterations=last)
    depths = torch.tensor([[1, 4, 2, 3, 1, 1, 1, 1], [1] * 8])
    forward, graded = passed(config, IDS, {"depths": depths})
    assert forward.iterations == 0 + 3 + 1 + 2
    assert forward.iteration_pairs == 3 * 2 + 1 * 3 + 2 * 4
    assert graded.iterations == (6 if last is None else 1 + 1 + 1)
    assert graded.tokens == forward.tokens
