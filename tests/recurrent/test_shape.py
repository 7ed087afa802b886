"""The cost arithmetic against PyTorch's own counter on real passes of a tiny model."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from pipeline.recurrent.model import RecurrentForCausalLM
from pipeline.recurrent.request import DepthRequest
from pipeline.recurrent.shape import RecurrentShape, rollout_flops, shape_of, token_flops

MakeModel = Callable[..., RecurrentForCausalLM]

SIZES: dict[str, Any] = {"hidden_size": 64, "intermediate_size": 160, "vocab_size": 200}
TOKENS = torch.arange(24)[None]


@torch.no_grad()
def measured(model: RecurrentForCausalLM, tokens: torch.Tensor, **arguments: Any) -> int:
    """By the counter, which does not know the CPU's fused attention."""
    with sdpa_kernel(SDPBackend.MATH), FlopCounterMode(display=False) as counter:
        model(tokens, **arguments)
    return counter.get_total_flops()


@pytest.mark.parametrize(
    "changes",
    [
        {"injection": "linear"},
        {"injection": "add", "prelude_layers": 2, "coda_layers": 0},
        {"injection": "none", "head_dim": 32, "num_key_value_heads": 1},
        {"injection": "gated", "core_layers": 3},
        {"num_experts": 4},
        {"injection": "none", "tie_iterations": False, "core_layers": 1},
        {"injection": "linear", "tie_iterations": False, "num_key_value_heads": 4},
    ],
    ids=lambda changes: "-".join(map(str, changes.values())),
)
@pytest.mark.parametrize("depth", [1, 4])
def test_a_forward_pass_costs_what_is_said(
    make_model: MakeModel, changes: dict[str, Any], depth: int
) -> None:
    model = make_model(**SIZES | changes)
    shape = shape_of(model.config.to_dict())
    formula = 24 * token_flops(shape, context=24, depth=depth)  # the counter sees no causality
    count = measured(model, TOKENS, num_iterations=depth, use_cache=True)
    assert formula == pytest.approx(count, rel=0.02)


@pytest.mark.parametrize(
    ("rule", "threshold", "stop", "decisions"),
    [("kl", 0.0, 6, 5), ("entropy", 99.0, 1, 1), ("q_exit", 2.0, 6, 5), ("policy", None, 6, 5)],
)
@torch.no_grad()
def test_a_decoded_token_costs_what_is_said(
    make_model: MakeModel, rule: Any, threshold: float | None, stop: int, decisions: int
) -> None:
    model = make_model(**SIZES, exit_gate=rule == "q_exit", halting_width=16)
    assert model.model.halting is not None
    torch.nn.init.constant_(model.model.halting.out.bias, 50.0)  # always goes on
    request = DepthRequest(rule=rule, depth=6, threshold=threshold)
    cache = model(TOKENS[:, :-1], num_iterations=2, use_cache=True).past_key_values
    count = measured(model, TOKENS[:, -1:], past_key_values=cache, depth_request=request)
    shape = shape_of(model.config.to_dict())
    formula = token_flops(shape, context=24, depth=stop, decisions=decisions, rule=rule)
    assert formula == pytest.approx(count, rel=0.02)


def test_a_rollout_is_its_tokens(make_model: MakeModel) -> None:
    """Prompt positions but the last run without a head; each completion token one further on."""
    model = make_model(**SIZES)
    shape = shape_of(model.config.to_dict())
    request = DepthRequest(rule="schedule", depth=2, schedule=(3, 1), prompt_depth=4)
    parts = [token_flops(shape, context=c, depth=4, head=False) for c in (1, 2)]
    parts += [token_flops(shape, context=2 + n, depth=d) for n, d in ((1, 3), (2, 1), (3, 2))]
    formula = rollout_flops(shape, prompt_tokens=3, depths=(3, 1, 2), request=request)
    assert formula == pytest.approx(sum(parts))


@pytest.mark.parametrize(
    ("request_", "depths", "decisions"),
    [
        (DepthRequest(rule="policy", depth=5, min_depth=2), (2, 4, 5), (1, 3, 3)),
        (DepthRequest(rule="kl", depth=5, min_depth=2, threshold=0.1), (2, 4, 5), (2, 4, 4)),
        (DepthRequest(rule="policy", depth=5, segment=2), (3, 3, 5), (3, 0, 4)),
        (DepthRequest(rule="fixed", depth=5), (5, 5, 5), (0, 0, 0)),
    ],
)
def test_decisions_are_counted(
    make_model: MakeModel,
    request_: DepthRequest,
    depths: tuple[int, ...],
    decisions: tuple[int, ...],
) -> None:
    shape = shape_of(make_model(**SIZES, halting_width=16).config.to_dict())
    formula = rollout_flops(shape, prompt_tokens=1, depths=depths, request=request_)
    parts = [
        token_flops(shape, context=1 + n, depth=d, decisions=k, rule=request_.rule)
        for n, (d, k) in enumerate(zip(depths, decisions, strict=True))
    ]
    assert formula == pytest.approx(sum(parts))


def block(context: int) -> int:
    """h 8, two query heads and one key head of size 4, MLP 16; a multiply-add is 2."""
    query, key, value, out, mlp = 8 * 8, 8 * 4, 8 * 4, 8 * 8, 3 * 8 * 16
    scores_and_sums = 2 * 8 * context
    return 2 * (query + key + value + out + mlp + scores_and_sums)


def iteration(context: int) -> int:
    """A linear injection of 2h to h, then two blocks."""
    return 2 * 16 * 8 + 2 * block(context)


HEAD = 2 * 8 * 10


@pytest.mark.parametrize(
    ("rule", "min_depth", "checks"),
    [
        ("fixed", 1, 0),
        ("latent", 1, 0),  # norms of states are not counted
        ("kl", 1, 2 * (block(3) + HEAD) + 2 * (block(4) + HEAD)),
        ("kl", 2, 2 * (block(3) + HEAD) + 2 * (block(4) + HEAD)),
        ("entropy", 1, 2 * (block(3) + HEAD) + 2 * (block(4) + HEAD)),
        ("q_exit", 1, 4 * 2 * 8),
        ("q_exit", 2, 4 * 2 * 8),
        ("policy", 1, 4 * 2 * (8 * 5 + 3 * 5 + 5)),  # state, three scalars, output
        ("policy", 2, 2 * 2 * (8 * 5 + 3 * 5 + 5)),
    ],
)
def test_a_rollout_by_hand(rule: Any, min_depth: int, checks: int) -> None:
    """Three prompt tokens, of which two are prefilled at depth 2; two tokens at depths 2 and 3, the
    cap. Both were looked at after iterations 1 and 2."""
    shape = RecurrentShape(
        hidden=8,
        mlp=16,
        heads=2,
        kv_heads=1,
        head_size=4,
        prelude=1,
        core=2,
        coda=1,
        vocabulary=10,
        injection="linear",
        num_iterations=3,
        max_iterations=3,
        halting_width=5,
    )
    around = [2 * block(context) for context in (1, 2, 3, 4)]  # prelude and coda
    prefill = around[0] + 2 * iteration(1) + around[1] + 2 * iteration(2)
    first = around[2] + 2 * iteration(3) + HEAD
    second = around[3] + 3 * iteration(4) + HEAD
    request = DepthRequest(rule=rule, depth=3, prompt_depth=2, min_depth=min_depth, threshold=0.5)
    formula = rollout_flops(shape, prompt_tokens=3, depths=(2, 3), request=request)
    assert formula == prefill + first + second + checks
    assert prefill + first + second == 34752


def test_layers_that_are_left_out_cost_their_keys_and_values() -> None:
    """Of three iterations of two layers, two skipped: keys and values of 4 from 8 numbers each."""
    sizes: dict[str, Any] = {"hidden": 8, "mlp": 16, "heads": 2, "kv_heads": 1, "head_size": 4}
    shape = RecurrentShape(
        **sizes,
        prelude=1,
        core=2,
        coda=1,
        vocabulary=10,
        injection="none",
        num_iterations=3,
        max_iterations=3,
        tie_iterations=False,
    )
    skipped = 2 * 2 * (2 * 8 * 4 + 2 * 8 * 4)
    assert token_flops(shape, context=5, depth=1) == 4 * block(5) + HEAD + skipped
    assert token_flops(shape, context=5, depth=3) == 8 * block(5) + HEAD
    tied = replace(shape, tie_iterations=True)
    assert token_flops(tied, context=5, depth=1) == 4 * block(5) + HEAD


def test_a_missing_field_is_named() -> None:
    with pytest.raises(KeyError, match="hidden_size"):
        shape_of({})
