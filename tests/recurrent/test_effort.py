"""Efforts, budgets and prices as depth requests."""

import math
from pathlib import Path
from typing import Any

import pytest
import torch

from pipeline.recurrent.config import RecurrentConfig
from pipeline.recurrent.effort import default_effort, default_request, price_of, request_for
from pipeline.recurrent.model import RecurrentForCausalLM

TABLE = [
    {"budget": 0.25, "log_price": 1.0, "mean_depth": 2.0, "accuracy": 0.5, "flops": 1e6},
    {"budget": 0.5, "log_price": -1.0, "mean_depth": 4.0, "accuracy": 0.7, "flops": 2e6},
    {"budget": 0.75, "log_price": -2.0, "mean_depth": 6.0, "accuracy": 0.8, "flops": 3e6},
]
CONFIG: dict[str, Any] = {
    "depth_policy": {"depth": 8, "prompt_depth": 2, "segment": 3, "sampled": False},
    "depth_calibration": TABLE,
    "efforts": {"low": 0.25, "medium": 0.5, "high": 0.75},
}


def test_efforts_are_calibrated_budgets() -> None:
    requests = [request_for(CONFIG, effort=name) for name in ("low", "medium", "high")]
    assert [request.log_price for request in requests] == [1.0, -1.0, -2.0]
    assert {(r.rule, r.depth, r.prefill_depth, r.segment) for r in requests} == {
        ("policy", 8, 2, 3)
    }


@pytest.mark.parametrize(
    ("budget", "log_price"),
    [(0.375, 0.0), (0.6, -1.4), (0.1, 1.0), (0.9, -2.0), (0.5, -1.0)],
)
def test_budgets_between_measured_ones_are_interpolated(budget: float, log_price: float) -> None:
    assert request_for(CONFIG, budget=budget).log_price == pytest.approx(log_price)


def test_rows_may_come_in_any_order() -> None:
    assert price_of(TABLE[::-1], 0.375) == price_of(TABLE, 0.375)


def test_the_whole_budget_is_the_full_depth() -> None:
    request = request_for(CONFIG, budget=1.0)
    assert (request.rule, request.depth, request.prefill_depth) == ("fixed", 8, 2)


def test_a_price_is_taken_as_it_is() -> None:
    assert request_for(CONFIG, price=0.5).log_price == math.log(0.5)


@pytest.mark.parametrize(
    ("choice", "sentence"),
    [
        ({}, "exactly one"),
        ({"effort": "low", "budget": 0.5}, "exactly one"),
        ({"effort": "most"}, "none of low, medium, high"),
        ({"budget": 1.5}, "at most 1"),
        ({"price": 0.0}, "positive"),
    ],
)
def test_what_cannot_be_asked_is_refused(choice: dict[str, Any], sentence: str) -> None:
    with pytest.raises(ValueError, match=sentence):
        request_for(CONFIG, **choice)


def test_a_model_without_calibration_is_refused() -> None:
    with pytest.raises(ValueError, match="a depth stage writes it"):
        request_for({}, effort="low")


def test_only_a_calibrated_model_has_a_default_effort() -> None:
    assert default_effort(CONFIG, {"effort": "high"}) == "high"
    assert default_effort(CONFIG, {}) is None
    assert default_effort({}, {"effort": "high"}) is None


def test_the_calibration_travels_with_the_configuration(tmp_path: Path) -> None:
    config = RecurrentConfig(hidden_size=64, num_attention_heads=2, **CONFIG)
    config.save_pretrained(tmp_path)
    loaded = RecurrentConfig.from_pretrained(tmp_path).to_dict()
    assert request_for(loaded, effort="low") == request_for(CONFIG, effort="low")


def test_a_model_generates_at_an_effort() -> None:
    config = RecurrentConfig(
        vocab_size=32,
        hidden_size=64,
        intermediate_size=64,
        num_attention_heads=2,
        halting_width=8,
        **CONFIG,
    )
    model = RecurrentForCausalLM(config).eval()
    request = model.request_for(effort="low")
    out = model.generate(  # pyright: ignore[reportAttributeAccessIssue]
        torch.tensor([[1, 2, 3]]), depth_request=request, max_new_tokens=3, do_sample=False
    )
    assert request.log_price == 1.0
    assert out.shape == (1, 6)


def test_a_calibrated_model_generates_at_its_default_effort() -> None:
    torch.manual_seed(0)
    sizes = {"vocab_size": 32, "hidden_size": 64, "intermediate_size": 64, "halting_width": 8}
    config = RecurrentConfig(num_attention_heads=2, num_iterations=5, **sizes, **CONFIG)
    model = RecurrentForCausalLM(config).eval()
    seen: list[torch.Tensor] = []
    model.model.register_forward_hook(lambda _, __, out: seen.append(out.depths))

    def depths(**choice: Any) -> list[int]:
        seen.clear()
        options = {"max_new_tokens": 3, "do_sample": False, **choice}
        model.generate(torch.tensor([[1, 2, 3]]), **options)
        return torch.cat(seen, dim=1)[0].tolist()

    assert depths() == [5] * 5
    model.generation_config.effort = "low"  # as `from_pretrained` finds it beside the weights
    assert depths() == depths(depth_request=model.request_for(effort="low"))
    assert depths() != [5] * 5
    assert depths(num_iterations=4) == [4] * 5


def test_without_calibration_the_default_is_the_models_own_depth() -> None:
    assert default_request({"num_iterations": 3}, {"effort": "low"}).depth == 3
    assert default_request(CONFIG, {"effort": "low"}) == request_for(CONFIG, effort="low")
