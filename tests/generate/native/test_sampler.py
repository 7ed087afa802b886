"""Tokens from logits: frequencies, top-p, greedy rows, and draws at the ends."""

import torch

from pipeline.generate.native.sampler import nucleus, sample, token_draws

LOGITS = torch.tensor([0.5, 0.25, 0.125, 0.125]).log()


def test_tokens_come_as_often_as_they_are_likely() -> None:
    drawn = torch.from_numpy(token_draws(7, first=0, count=20000))
    logits, ones = LOGITS.expand(20000, -1), torch.ones(20000)
    tokens, logprobs = sample(logits, temperature=ones, top_p=None, greedy=None, draws=drawn)
    shares = tokens.bincount(minlength=4) / 20000
    assert torch.allclose(shares, LOGITS.exp(), atol=0.015)
    assert torch.allclose(logprobs, LOGITS[tokens])


def test_top_p_keeps_the_smallest_set_that_reaches_it() -> None:
    kept = nucleus(LOGITS.flip(0).expand(4, -1), torch.tensor([0.4, 0.6, 0.8, 1.0])).isfinite()
    assert kept.sum(-1).tolist() == [1, 2, 3, 4]
    assert kept[1].tolist() == [False, False, True, True]


def test_no_draw_takes_a_token_without_probability() -> None:
    logits = torch.tensor([[-torch.inf, 1.0, 2.0, -torch.inf]]).expand(2, -1)
    ends = torch.tensor([0.0, 1 - 2.0**-53], dtype=torch.float64)
    tokens, _ = sample(logits, temperature=torch.ones(2), top_p=None, greedy=None, draws=ends)
    assert tokens.tolist() == [1, 2]


def test_greedy_rows_stand_among_others() -> None:
    drawn = torch.tensor([0.99, 0.99], dtype=torch.float64)
    greedy = torch.tensor([True, False])
    tokens, _ = sample(
        LOGITS.expand(2, -1), temperature=torch.ones(2), top_p=None, greedy=greedy, draws=drawn
    )
    assert tokens.tolist() == [0, 3]


def test_draws_do_not_depend_on_where_counting_starts() -> None:
    whole = token_draws(3, first=0, count=10)
    assert (token_draws(3, first=4, count=6) == whole[4:]).all()
