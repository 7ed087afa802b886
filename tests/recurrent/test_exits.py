"""Every rule's decision on numbers worked out by hand."""

import dataclasses
from typing import Any

import pytest
import torch
from torch import nn

from pipeline.recurrent.exits import STOPS, Observation, decide
from pipeline.recurrent.request import RULES, THRESHOLD_RULES


def seen(**changes: Any) -> Observation:
    """Two rows after iteration 2: states (3, 4), then (0, 4) and (0, 0) before; a coin's odds."""
    values: dict[str, Any] = {
        "iteration": torch.tensor([2, 2]),
        "state": torch.tensor([[3.0, 4.0]] * 2),
        "previous": torch.tensor([[0.0, 4.0]] * 2),
        "before": torch.tensor([[0.0, 0.0]] * 2),
        "threshold": torch.tensor([0.5, 0.7]),
        "log_price": torch.zeros(2),
        "logprobs": torch.tensor([[0.75, 0.25]] * 2).log(),
        "previous_logprobs": torch.tensor([[0.5, 0.5]] * 2).log(),
        "survival": torch.tensor([0.4, 0.4]),
    }
    return Observation(**values | changes)


def stops(rule: str, observation: Observation) -> list[bool]:
    goes_on, logprob = decide(rule, observation, None)
    assert not bool(logprob.any())
    return (~goes_on).tolist()


@pytest.mark.parametrize(
    ("rule", "signal", "stops_below"),
    [
        ("latent", 0.6, True),  # 3 / 5
        ("second_order", 1.0, True),  # |(3, 0) - (0, 4)| / 5
        ("kl", 0.130812, True),  # .75 ln 1.5 + .25 ln .5
        ("entropy", 0.562335, True),
        ("q_exit", 0.6, False),  # 1 - 0.4
    ],
)
def test_rules_compare_their_signal_with_the_threshold(
    rule: str, signal: float, stops_below: bool
) -> None:
    threshold = torch.tensor([signal - 1e-4, signal + 1e-4])
    expected = [False, True] if stops_below else [True, False]
    assert stops(rule, seen(threshold=threshold)) == expected


@pytest.mark.parametrize("rule", ["kl", "second_order"])
def test_rules_of_two_iterations_do_not_stop_at_the_first(rule: str) -> None:
    first = seen(iteration=torch.ones(2, dtype=torch.long), threshold=torch.full((2,), 9.0))
    assert stops(rule, first) == [False, False]
    if rule == "kl":
        fresh = dataclasses.replace(seen(threshold=torch.full((2,), 9.0)), previous_logprobs=None)
        assert stops(rule, fresh) == [False, False]


def test_fixed_depths_never_stop() -> None:
    assert stops("fixed", seen()) == stops("schedule", seen()) == [False, False]


class Constant(nn.Module):
    """A policy whose logits are known."""

    def forward(self, *_: torch.Tensor) -> torch.Tensor:
        return torch.tensor([0.4, -0.4])


def test_a_policy_goes_on_where_that_is_likelier_or_drawn() -> None:
    goes_on, logprob = decide("policy", seen(), Constant())
    assert goes_on.tolist() == [True, False]
    assert not bool(logprob.any())
    drawn = torch.tensor([0.7, 0.3], dtype=torch.float64)  # sigmoid(0.4) = 0.5987
    goes_on, logprob = decide("policy", seen(uniform=drawn), Constant())
    assert goes_on.tolist() == [False, True]
    assert logprob.tolist() == pytest.approx([-0.913015, -0.913015], abs=1e-5)


def test_right_already_stops_where_that_is_as_likely_as_the_threshold() -> None:
    """The head's logit is that of not yet: of right already, 0.4013 and 0.5987."""
    likely = seen(threshold=torch.tensor([0.40, 0.60]))
    goes_on, logprob = decide("right", likely, Constant())
    assert goes_on.tolist() == [False, True]
    assert not bool(logprob.any())


@pytest.mark.parametrize(
    ("rule", "changes", "message"),
    [
        ("entropy", {"logprobs": None}, "needs the readout"),
        ("q_exit", {"survival": None}, "exit gate"),
        ("policy", {}, "halting_width"),
        ("right", {}, "halting_width"),
    ],
)
def test_a_rule_says_what_it_needs(rule: str, changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        decide(rule, seen(**changes), None)


def test_every_threshold_rule_has_its_function() -> None:
    assert {*STOPS, "right"} == set(THRESHOLD_RULES)
    assert set(RULES) == {*THRESHOLD_RULES, "fixed", "schedule", "policy"}
