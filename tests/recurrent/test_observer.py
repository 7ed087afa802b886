"""An observer's memory: rows of any batch, each at an iteration of its own."""

from typing import Any

import pytest
import torch
from torch import Tensor, nn

from pipeline.recurrent.counter import DEPTH, uniform
from pipeline.recurrent.exits import Observation
from pipeline.recurrent.observer import Observer, Terms
from pipeline.recurrent.request import READOUT_RULES, RULES

ROWS, WIDTH, VOCABULARY, DEEPEST = 6, 5, 7, 4
GATE = nn.Linear(WIDTH, 1)
HEAD = nn.Linear(WIDTH, VOCABULARY)


def states() -> Tensor:
    """s_0 to s_4 of every row, [_R + 1, R, h]."""
    return torch.randn(DEEPEST + 1, ROWS, WIDTH, generator=torch.Generator().manual_seed(0))


def terms(rows: Tensor) -> Terms:
    whole = Terms(
        threshold=torch.arange(ROWS) / 10,
        log_price=torch.arange(ROWS) / 7,
        seed=torch.arange(ROWS) + 40,
        position=torch.arange(ROWS) * 3,
    )
    return whole[rows]


def look(
    observer: Observer, rule: str, rows: list[int], iterations: list[int], **changes: Any
) -> Observation:
    """What the observer sees of rows that ended these iterations."""
    every, at, ended = states(), torch.tensor(rows), torch.tensor(iterations)
    options = {"terms": terms(at), "sampled": False, "readout": HEAD} | changes
    return observer.look(
        rule, at, iteration=ended, state=every[ended, at], previous=every[ended - 1, at], **options
    )


@torch.no_grad()
@pytest.mark.parametrize("rule", RULES)
def test_what_is_seen_follows_from_the_rows_own_past(rule: str) -> None:
    """Rows enter at different ticks, some twice: the memory is theirs alone and begins anew."""
    observer, every = Observer(ROWS, gate=GATE), states()
    starts = {0: 0, 3: 0, 5: 1, 2: 2, 4: 3, 1: 5}
    for tick in range(12):
        ended = {row: tick - start + 1 for row, start in starts.items() if tick >= start}
        ended = {row: 1 + (i - 1) % DEEPEST for row, i in ended.items()}
        rows, iterations = list(ended), list(ended.values())
        seen = look(observer, rule, rows, iterations)
        for n, (row, i) in enumerate(ended.items()):
            assert torch.equal(seen.state[n], every[i, row])
            assert torch.equal(seen.previous[n], every[i - 1, row])
            if rule == "second_order":
                assert torch.equal(seen.before[n], every[max(i - 2, 0), row])
            if rule in READOUT_RULES:
                assert seen.logprobs is not None
                assert seen.previous_logprobs is not None
                now, then = (HEAD(every[k, row]).log_softmax(-1) for k in (i, i - 1))
                assert torch.allclose(seen.logprobs[n], now, atol=1e-6)
                assert i == 1 or torch.allclose(seen.previous_logprobs[n], then, atol=1e-6)
            if rule == "q_exit":
                assert seen.survival is not None
                stay = (1 - torch.sigmoid(GATE(every[1 : i + 1, row]))).prod()
                assert torch.allclose(seen.survival[n], stay, atol=1e-6)
        assert torch.equal(seen.threshold, terms(torch.tensor(rows)).threshold)
        assert torch.equal(seen.log_price, terms(torch.tensor(rows)).log_price)


@torch.no_grad()
@pytest.mark.parametrize("rule", RULES)
def test_each_rule_pays_for_what_it_looks_at_alone(rule: str) -> None:
    def unread(state: Tensor) -> Tensor:
        raise AssertionError(rule)

    readout = HEAD if rule in READOUT_RULES else unread
    seen = look(Observer(ROWS, gate=GATE), rule, [0, 1], [1, 1], readout=readout)
    assert (seen.logprobs is not None) == (rule in READOUT_RULES)
    assert (seen.survival is not None) == (rule == "q_exit")
    assert seen.uniform is None


def test_a_model_without_a_gate_has_no_survival() -> None:
    assert look(Observer(ROWS, gate=None), "q_exit", [0], [1]).survival is None


@torch.no_grad()
def test_draws_are_of_the_rows_seed_position_and_iteration() -> None:
    rows, iterations = [4, 1, 5], [3, 1, 2]
    drawn = look(Observer(ROWS, gate=None), "policy", rows, iterations, sampled=True).uniform
    assert drawn is not None
    of = terms(torch.tensor(rows))
    for n, iteration in enumerate(iterations):
        assert drawn[n] == uniform(of.seed[n], of.position[n], iteration, stream=DEPTH)


def test_gradients_pass_through_what_a_rule_reads() -> None:
    """A sampled policy's log-probabilities are trained on; remembering must not break the graph."""
    observer, every = Observer(ROWS, gate=GATE), states().requires_grad_()
    rows = torch.arange(ROWS)
    total = torch.zeros(())
    for rule in ("second_order", "kl", "q_exit", "policy"):
        for i in range(1, DEEPEST + 1):
            seen = observer.look(
                rule,
                rows,
                iteration=torch.full((ROWS,), i),
                state=every[i],
                previous=every[i - 1],
                terms=terms(rows),
                sampled=False,
                readout=HEAD,
            )
            total = total + seen.state.sum() + seen.before.sum()
    total.backward()
    assert every.grad is not None
